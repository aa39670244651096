"""Checkpoints: folders that are complete or absent, whenever the process is killed.

A folder is written under a temporary name, flushed to disk file by file and renamed; only then are its predecessors
removed, but for as many as are wanted. Names are KIND-STEP. Contents: `state.safetensors`, `state.json`, which holds
the other's checksum, and whatever `extra` adds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError
from nextmove.host.files import full, read_json, remove_leftovers, replacing, scratch, write_json
from nextmove.training.distributed import World

FORMAT = 1
OLD = ".old-"
SHARES = "shares"
"""Folder with the tensors of several processes, each of which has written its share."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read or is of another model; the message names the file and the first difference."""


class DamagedError(CheckpointError):
    """A checkpoint cannot be read."""


def write(
    folder: Path,
    kind: str,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    extra: Callable[[Path], None] | None = None,
    *,
    keep: int = 1,
) -> Path:
    """Writes FOLDER/KIND-STEP and removes older ones of its kind but the newest; one that is there already is kept.

    facts: plain JSON values; extra: called with the unfinished folder to add files of its own; keep: how many of the
    kind stay, this one included. On a full disk the older of them make room. Raises OSError that names the file;
    nothing unfinished is left then.
    """
    final = folder / f"{kind}-{step}"
    if final.is_dir():
        return final
    content = {"format": FORMAT, "step": step, **facts}
    try:
        _write(final, tensors, content, extra)
    except OSError as problem:
        older = steps(folder, kind)[:-1]
        if not full(problem) or not older:
            raise
        remove(folder, kind, lambda found: found in older)
        _write(final, tensors, content, extra)
    kept = steps(folder, kind)[-keep:]
    remove(folder, kind, lambda found: found not in kept and found < step)
    return final


def _write(
    final: Path,
    tensors: Mapping[str, Tensor],
    content: Mapping[str, Any],
    extra: Callable[[Path], None] | None,
) -> None:
    with replacing(final) as part:
        part.mkdir()
        weights.write(part / "state.safetensors", tensors)
        write_json(part / "state.json", {**content, "sha256": weights.checksum(part / "state.safetensors")})
        if extra is not None:
            extra(part)


def write_shares(
    folder: Path,
    kind: str,
    step: int,
    write: Callable[[Path], None],
    facts: Mapping[str, Any],
    world: World,
    *,
    keep: int = 1,
) -> Path:
    """As `write` where several processes each write a share; all of them call it.

    write: writes this process's share into a folder.
    """
    final = folder / f"{kind}-{step}"
    if world.sum([world.first and final.is_dir()])[0]:
        return final
    part = scratch(final, int(world.sum([os.getpid() if world.first else 0])[0]))
    with ExitStack() as stack:
        if world.first:
            stack.enter_context(replacing(final))
            part.mkdir()
        world.wait()
        write(part / SHARES)
        world.wait()
        if world.first:
            sums = {path.name: weights.checksum(path) for path in sorted((part / SHARES).iterdir())}
            write_json(part / "state.json", {"format": FORMAT, "step": step, **facts, SHARES: sums})
    if world.first:
        kept = steps(folder, kind)[-keep:]
        remove(folder, kind, lambda found: found not in kept and found < step)
    world.wait()
    return final


def steps(folder: Path, kind: str) -> list[int]:
    """Steps of the complete checkpoints of a kind, oldest first."""
    numbers = (path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*") if path.is_dir())
    return sorted(int(number) for number in numbers if number.isdecimal())


def found(folder: Path, kind: str) -> list[Path]:
    """The complete checkpoints of a kind, latest first."""
    return [folder / f"{kind}-{step}" for step in reversed(steps(folder, kind))]


def newest(folder: Path, kind: str) -> Path | None:
    """The latest complete checkpoint of a kind."""
    return next(iter(found(folder, kind)), None)


def require_new(out: Path) -> None:
    """Raises FileExistsError for a folder that holds a run, which a new one would write over."""
    last = newest(out / "checkpoints", "last")
    if last is not None:
        raise FileExistsError(f"{last}: {out} holds a run; resume it or choose another folder (--resume, --out)")


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
    remove_leftovers(folder)
    for path in folder.glob(f"{OLD}*"):
        shutil.rmtree(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint; raises DamagedError naming the file that cannot be read.

    CheckpointError where it is of another format. Of shares the tensors are left to `sharded.read`, and their files are
    `SHARES` of the facts.
    """
    try:
        facts = read_json(path / "state.json")
        shared = facts.get(SHARES) if isinstance(facts, dict) else None
        tensors = {} if shared else weights.read(path / "state.safetensors")
    except (OSError, ValueError) as problem:
        raise DamagedError(f"{path}: cannot be read ({problem})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else facts
        raise CheckpointError(f"{path}: format: expected {FORMAT}, found {found!r}")
    try:
        for name, expected in (shared or {}).items():
            weights.check_whole(path / SHARES / name, expected, "state.json")
        if not shared:
            weights.check_whole(path / "state.safetensors", facts.get("sha256"), "state.json")
    except (ConfigError, OSError) as problem:
        raise DamagedError(f"{path}: cannot be read ({problem})") from None
    return tensors, facts


def check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError naming the first tensor that is missing, too many or of another shape."""
    try:
        weights.check(expected, found, where=str(path))
    except ConfigError as problem:
        raise CheckpointError(f"{problem}: another model's checkpoint?") from None


def check_facts(path: Path, expected: Any, found: Any, where: str) -> None:
    """Raises CheckpointError naming the first field in which two JSON values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            check_facts(path, expected.get(key), found.get(key), f"{where}.{key}")
    elif expected != found:
        raise CheckpointError(f"{path}: {where}: the checkpoint was written with {found!r}, this run has {expected!r}")
