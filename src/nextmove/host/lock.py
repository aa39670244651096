"""A lock on a folder that one run at a time writes into; it ends with its process.

`flock` on a file of the folder: the kernel lets go of it when the process is gone, so a file that a killed process left
locks nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
AGAIN = 0.2
"""Seconds after which who waits asks again."""


class InUseError(RuntimeError):
    """A folder that another run writes into; the message says which, and since when."""


_held: dict[Path, tuple[int, int]] = {}
"""File descriptor and thread of the lock files that this process holds."""


@contextmanager
def hold(folder: Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Makes the folder and keeps every other process and thread that asks out of it meanwhile.

    Where this thread holds it already, nothing happens. If somebody else does, raises InUseError; or, given `wait`,
    tells it once who that is and waits for the end of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / LOCK
    if path in _held and _held[path][1] == threading.get_ident():
        yield
        return
    while path in _held:
        if wait is None:
            raise InUseError(f"{folder}: in use by another thread of this process; wait for it or choose another --out")
        time.sleep(AGAIN)
    _held[path] = (_take(folder, path, wait), threading.get_ident())
    try:
        yield
    finally:
        own = _held.pop(path, None)
        if own is not None:  # else this is a fork of the process that holds it
            with suppress(OSError):  # the folder may be gone or moved
                path.unlink()
            os.close(own[0])


def _take(folder: Path, path: Path, wait: Callable[[str], None] | None) -> int:
    """The descriptor of the locked file."""
    told = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _who(handle)
            os.close(handle)
            if wait is None:
                raise InUseError(
                    f"{folder}: in use by {owner}; wait for it, stop it, or choose another --out"
                ) from None
            if not told:
                wait(owner)
            told = True
            time.sleep(AGAIN)
            continue
        except OSError as problem:  # a file system without locks
            warnings.warn(
                f"{folder}: cannot be locked ({problem.strerror}): let one run at a time use it", stacklevel=4
            )
        if _same(handle, path):
            break
        os.close(handle)  # its owner removed it when it let go
    with suppress(OSError):  # a full disk shows in what comes next
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_me()).encode())
    return handle


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _me() -> dict[str, object]:
    command = " ".join(shlex.join(sys.orig_argv).split())
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": command[:400]}


def _who(handle: int) -> str:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return f"process {found['pid']} on {found['host']} since {found['since']} ({found['command']})"
    except (ValueError, KeyError, TypeError):  # it has not said yet
        return "another process"


def _let_go() -> None:
    """In a forked process: a child that outlives its parent does not keep the parent's locks."""
    for handle, _ in _held.values():
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
