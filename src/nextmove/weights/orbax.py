"""Trees of arrays as Orbax writes them (zarr, in one OCDBT store or in a folder an array), read without JAX.

The arrays are read by `tensorstore`, as Orbax reads them: `pip install tensorstore`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError, read_object

METADATA, MANIFEST = "_METADATA", "manifest.ocdbt"
"""What a tree is described by, and the beginning of a store that holds all of its arrays."""
PACKAGE = "tensorstore"


def is_tree(folder: Path) -> bool:
    """Whether a folder is a tree of arrays."""
    return (folder / METADATA).is_file()


def names(folder: Path) -> dict[str, str]:
    """The arrays of a tree: path with '/' between its parts -> name in the store.

    Raises FileNotFoundError for a folder without a tree, and ConfigError for one that is described otherwise.
    """
    path = folder / METADATA
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a tree of arrays with {METADATA}, found none")
    tree = read_object(path).get("tree_metadata")
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: tree_metadata: expected an object of arrays, found {tree!r:.60}")
    found: dict[str, str] = {}
    for entry in tree.values():
        try:
            keys = [str(part["key"]) for part in entry["key_metadata"]]
        except (KeyError, TypeError):
            raise ConfigError(
                f"{path}: tree_metadata: expected key_metadata of each array, found {entry!r:.60}"
            ) from None
        found["/".join(keys)] = ".".join(keys)
    return found


def read_tree(folder: Path, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a tree one after another, by path, floats as `dtype` (None: as stored), on the CPU.

    Raises FileNotFoundError, or ConfigError for an array that is damaged or absent, and where tensorstore is not
    installed, which is said before anything is read.
    """
    stored, store = names(folder), _tensorstore()
    zarr = "zarr3" if read_object(folder / METADATA).get("use_zarr3") else "zarr"
    for path, name in stored.items():
        try:
            value = store.open({"driver": zarr, "kvstore": _place(folder, name)}, open=True, read=True).result()
            array = value.read().result()
        # The library raises ValueError for whatever is wrong.
        except ValueError as problem:
            why = str(problem).partition(" [")[0]
            raise ConfigError(f"{folder}: {path}: expected an array, found none that can be read ({why})") from None
        yield path, _tensor(array, dtype)


def _place(folder: Path, name: str) -> dict[str, Any]:
    """Where an array is."""
    if (folder / MANIFEST).is_file():
        return {"driver": "ocdbt", "base": f"file://{folder.resolve()}/", "path": f"{name}/"}
    return {"driver": "file", "path": f"{folder.resolve() / name}/"}


def _tensor(array: Any, dtype: torch.dtype | None) -> Tensor:
    """An array of numpy's, or of those kinds of ml_dtypes' that torch has."""
    if array.dtype.name == "bfloat16":
        value = torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    else:
        value = torch.from_numpy(array)
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as problem:
        raise ConfigError(f"trees of Orbax need {PACKAGE} ({problem}): pip install {PACKAGE}") from None
    return tensorstore
