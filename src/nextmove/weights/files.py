"""Safetensors files: writing, and reading into memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.host.files import replacing

GROUP = 64 * 2**20
"""Bytes of the file that are in memory beside the tensors already copied out of it."""
TIED = "tied"
"""Key of the metadata: JSON of name -> the name whose tensor it shares."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Names of weights that are instructions of a program, which no model of this house runs."""


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file; a tensor under several names is written once and read back as one.

    Views of other tensors are written by value. The file is whole or as before; raises OSError naming it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    apart, tied = _apart(tensors)
    notes = {"format": "pt", **(metadata or {})}
    if tied:
        notes[TIED] = json.dumps(tied)
    with replacing(path) as part:
        try:
            save_file(apart, part, metadata=notes)
        except SafetensorError as problem:
            found = re.search(r"os error (\d+)", str(problem))
            if found is None:
                raise
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from problem


def _instead(folder: Path) -> str:
    """What weights there are in another form, and what to do with them."""
    if (folder / "adapter_model.safetensors").is_file():
        return " but adapter_model.safetensors, adapters alone; merge them into the model that they belong to"
    found = [name for pattern in PICKLED for name in sorted(path.name for path in folder.glob(pattern))]
    if not found:
        return ""
    return (
        f" but {found[0]}, a pickle, which is not run; write its tensors as safetensors: "
        "safetensors.torch.save_file(nextmove.weights.torch_files.read_torch(PATH), OUT)"
    )


def read(path: Path, *, dtype: torch.dtype | None = None, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    They are copied out of the file piece by piece, so that memory holds little more than the tensors. Raises
    FileNotFoundError, or ConfigError for a broken file.

    Args:
        path: The file.
        dtype: Of floating tensors; None: as in the file.
        mapped: Leave tensors that keep their dtype in the file's pages: they are loaded when touched and shared between
            processes, and the file must not be changed in place meanwhile. Products of single rows may round otherwise
            than from memory of torch's, since the file's tensors begin at any address.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: expected {path.name}, found none{_instead(path.parent)}")
    try:
        with safe_open(path, framework="pt") as file:
            tied = (file.metadata() or {}).get(TIED)
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        targets = {name: dtype if dtype and value.is_floating_point() else value.dtype for name, value in found.items()}
        stay = {name for name, value in found.items() if mapped and value.dtype == targets[name]}
        groups = list(_groups({name: value.nbytes for name, value in found.items() if name not in stay}))
        found = {name: value for name, value in found.items() if name in stay}
        for group in groups:
            # Opened anew, since pages that were touched stay in memory for as long as the file is open.
            with safe_open(path, framework="pt") as file:
                found |= {name: file.get_tensor(name).to(targets[name], copy=True) for name in group}
    except SafetensorError as problem:
        raise ConfigError(f"{path}: not a valid safetensors file ({problem})") from None
    return found | _tied(path, tied, found)


def read_metadata(path: Path) -> dict[str, str]:
    """What was written beside the tensors; raises as `read`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as problem:
        raise ConfigError(f"{path}: not a valid safetensors file ({problem})") from None


def checksum(path: Path) -> str:
    """SHA-256, hexadecimal, of a file's content; it is kept beside the file and asked for by `check_whole`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_whole(path: Path, expected: str | None, beside: str) -> None:
    """Raises ConfigError for a file that has not the checksum `expected`; None: it was written without one.

    beside: name of the file that holds the checksum.
    """
    if expected is not None and checksum(path) != expected:
        raise ConfigError(
            f"{path}: damaged: it is not what was written, by the checksum in {beside}; take it from where it came "
            f"from, or, if it was changed on purpose, remove the key 'sha256' from {beside}"
        )


def _tied(path: Path, note: str | None, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the file holds under another name."""
    if note is None:
        return {}
    try:
        names: Any = json.loads(note)
        return {name: found[other] for name, other in names.items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        expected = "expected JSON of names and the names of tensors they share"
        raise ConfigError(f"{path}: metadata: {TIED}: {expected}, found {note!r}") from None


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    held = 0
    for name, size in sizes.items():
        if group and held + size > GROUP:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU that share no memory, as the format wants, and the names of those that are another's."""
    apart: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    ranges: list[tuple[int, int]] = []
    for name, tensor in tensors.items():
        same = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and same in first:
            tied[name] = first[same]
            continue
        first[same] = name
        value = tensor.detach().cpu().contiguous()
        begin, end = value.data_ptr(), value.data_ptr() + value.nbytes
        if any(begin < stop and start < end for start, stop in ranges):
            value = value.clone()
        ranges.append((value.data_ptr(), value.data_ptr() + value.nbytes))
        apart[name] = value
    return apart, tied
