"""The one way files are written: temporary name, sync, rename; errors of the disk name the file."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, quota used up, file too large for the limit of the process."""


def full(problem: BaseException) -> bool:
    """Whether this says that the disk takes no more."""
    return isinstance(problem, OSError) and problem.errno in FULL


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the disk inside that names no file names this one."""
    try:
        yield
    except OSError as problem:
        if problem.errno is None or problem.filename is not None:
            raise
        raise OSError(problem.errno, os.strerror(problem.errno), str(path)) from problem


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and keeps their entries by itself.
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder with everything below it, is on the disk."""
    for inner in sorted(path.rglob("*"), reverse=True):
        sync(inner)
    sync(path)


def scratch(path: Path, process: int) -> Path:
    """The temporary path beside `path` at which a process makes it."""
    return path.with_name(f".{path.name}.{process}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; the file or folder made there takes its name when the block succeeds.

    It is synced first, so that `path` has all of it or is as before, whatever interrupts. Parent folders are made. A
    folder replaces none that holds anything. Raises OSError that names `path`, and then nothing temporary is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, glob.escape(path.name))
    part = scratch(path, os.getpid())
    try:
        with naming(path):
            yield part
            sync_tree(part)
            os.replace(part, path)
    except BaseException as problem:
        _remove(part)
        if isinstance(problem, OSError) and str(problem.filename).startswith(str(part)):
            name = str(path) + str(problem.filename)[len(str(part)) :]
            raise OSError(problem.errno, problem.strerror, name) from problem
        raise
    with suppress(OSError):  # not every system lets one sync a folder
        sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file through `replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes a file in UTF-8 through `replacing`."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any, *, indent: int | None = 2, allow_nan: bool = True) -> None:
    """Writes JSON in UTF-8 through `replacing`; raises ValueError for NaN and infinities unless `allow_nan`."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=allow_nan) + "\n")


def read_json(path: Path, error: type[ValueError] = ValueError) -> Any:
    """The content of a JSON file; raises FileNotFoundError, or `error` naming a file that holds no JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path}: not valid JSON ({problem})") from None


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Removes temporary files and folders of `replacing` whose process is gone; `name` is a pattern of final names."""
    for left in folder.glob(f".{name}.*.part"):
        number = left.stem.rpartition(".")[2]
        if number.isdecimal() and not _lives(int(number)):
            _remove(left)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


class Appended:
    """A file that only grows: every write is there when it returns, with no buffer left to be written later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, content: bytes) -> None:
        """All of it; raises OSError that names the file."""
        with naming(self.path):
            while content:
                content = content[self._file.write(content) :]

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def room(path: Path) -> int:
    """Bytes that may still be written beside `path`; more than any disk has where the file system does not tell."""
    found = os.statvfs(path)
    free = found.f_bavail if os.geteuid() else found.f_bfree
    return free * found.f_frsize if found.f_blocks else 2**63


def cache_folder(name: str) -> Path:
    """Where what can be made again lies: $XDG_CACHE_HOME/nextmove/NAME, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextmove" / name
