"""Changes of a folder of another project's, for what should be refused or read alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor


def edit(folder: Path, file: str = "config.json", **changes: Any) -> Path:
    """The folder with other values in a file: `a__b` is b of a, `...` takes a key away."""
    path = folder / file
    data = json.loads(path.read_text())
    for key, value in changes.items():
        inner = data
        *parts, last = key.split("__")
        for part in parts:
            inner = inner[part]
        if value is ...:
            inner.pop(last, None)
        else:
            inner[last] = value
    path.write_text(json.dumps(data))
    return folder


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Changes the weights in place, or puts those that `change` returns in their stead."""
    path = folder / "model.safetensors"
    found = load_file(path)
    made = change(found)
    found = made if isinstance(made, dict) else found
    save_file({name: value.contiguous() for name, value in found.items()}, path)
