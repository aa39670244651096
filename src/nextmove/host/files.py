"""Files that are whole or as they were, whatever interrupts, and errors of the disk that name the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

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


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write(file)` such that `path` afterwards has all of it, or is as before, whatever interrupts."""
    _forget(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            with scratch.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    with suppress(OSError):  # not every system lets one sync a folder
        sync(path.parent)


def write_text(path: Path, content: str) -> None:
    """`content` as UTF-8, whole or not at all, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode()
    write_whole(path, lambda file: file.write(raw))


def _forget(path: Path) -> None:
    """Removes what processes that are gone left of this file."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        number = left.name.removeprefix(f".{path.name}.").removesuffix(".part")
        if number.isdecimal() and not _lives(int(number)):
            with suppress(OSError):
                left.unlink()


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


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, not whole before it returns; an error of the disk is an OSError as everywhere else."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as problem:
        found = re.search(r"os error (\d+)", str(problem))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from problem


def room(path: Path) -> int:
    """Bytes that may still be written beside `path`; more than any disk has where the file system does not tell."""
    found = os.statvfs(path)
    free = found.f_bavail if os.geteuid() else found.f_bfree
    return free * found.f_frsize if found.f_blocks else 2**63
