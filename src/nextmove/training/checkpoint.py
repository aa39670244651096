"""Folders that are either complete or not there, whatever moment the process is killed at.

A folder is written under a temporary name, flushed to disk file by file and renamed; only then are its predecessors
removed. Names are KIND-STEP. Contents: `state.safetensors`, `state.json` and whatever `extra` adds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nextmove.config import nearest

FORMAT = 1
PART, OLD = ".part-", ".old-"


class CheckpointError(ValueError):
    """A checkpoint cannot be read or is of another model; the message names the file and the first difference."""


def write(
    folder: Path,
    kind: str,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Writes FOLDER/KIND-STEP and removes older ones of its kind; one that is there already is kept.

    facts: plain JSON values; extra: called with the unfinished folder to add files of its own.
    """
    final = folder / f"{kind}-{step}"
    if final.is_dir():
        return final
    part = folder / f"{PART}{final.name}"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    _write_tensors(part / "state.safetensors", tensors)
    (part / "state.json").write_text(json.dumps({"format": FORMAT, "step": step, **facts}, indent=2) + "\n")
    if extra is not None:
        extra(part)
    for path in [*part.rglob("*"), part]:
        _flush(path)
    os.rename(part, final)
    _flush(folder)
    remove(folder, kind, lambda found: found < step)
    return final


def steps(folder: Path, kind: str) -> list[int]:
    """Steps of the complete checkpoints of a kind, oldest first."""
    numbers = (path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*") if path.is_dir())
    return sorted(int(number) for number in numbers if number.isdecimal())


def newest(folder: Path, kind: str) -> Path | None:
    """The latest complete checkpoint of a kind."""
    found = steps(folder, kind)
    return folder / f"{kind}-{found[-1]}" if found else None


def untaken(out: Path) -> None:
    """Raises FileExistsError for a folder that holds a run, which a new one would write over."""
    last = newest(out / "checkpoints", "last")
    if last is not None:
        raise FileExistsError(f"{last}: {out} holds a run; resume it or choose another folder")


def remove(folder: Path, kind: str, which: Callable[[int], bool]) -> None:
    """Removes the checkpoints of a kind whose step `which` names; a half removed one is no checkpoint any more."""
    for step in filter(which, steps(folder, kind)):
        old = folder / f"{OLD}{kind}-{step}"
        if old.exists():
            shutil.rmtree(old)
        os.rename(folder / f"{kind}-{step}", old)
        shutil.rmtree(old)


def tidy(folder: Path) -> None:
    """Removes what an interrupted write or removal left."""
    for path in [*folder.glob(f"{PART}*"), *folder.glob(f"{OLD}*")]:
        shutil.rmtree(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint; raises CheckpointError naming the file that cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        facts = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "state.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else facts
        raise CheckpointError(f"{path}: format: expected {FORMAT}, found {found!r}")
    return tensors, facts


def check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError naming the first key or shape of `found` that is not as `expected`."""
    for name, value in expected.items():
        if name not in found:
            raise CheckpointError(f"{path}: missing tensor {name!r}{nearest(name, found)}: another model's checkpoint?")
        if value.shape != found[name].shape:
            shapes = f"expected shape {tuple(value.shape)}, found {tuple(found[name].shape)}"
            raise CheckpointError(f"{path}: {name}: {shapes}: another model's checkpoint?")
    for name in found:
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name!r} belongs to no part of this model{nearest(name, expected)}")


def check_facts(path: Path, expected: Any, found: Any, where: str) -> None:
    """Raises CheckpointError naming the first field in which two JSON values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            check_facts(path, expected.get(key), found.get(key), f"{where}.{key}")
    elif expected != found:
        raise CheckpointError(f"{path}: {where}: the checkpoint was written with {found!r}, this run has {expected!r}")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        # Tied weights are one tensor under two names, which the format refuses.
        apart[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    save_file(apart, path)


def _flush(path: Path) -> None:
    """Puts a file's contents, or a folder's list of names, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
