"""Compiled programs kept between processes, in the user's cache folder: one file each, named by all it depends on.

Each is written whole under a temporary name, so that processes that write the same one at once do each other no harm,
and begins with a hash of the rest: a damaged one is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from nextmove.host.files import cache_folder, write_bytes

ALIGNED = 64
"""Bytes: weights are read fastest, and by some kernels only, from such places."""
MOST = 4 << 30
"""Bytes that all of them may take; the longest unused go first."""


def folder() -> Path:
    """Where they lie: $XDG_CACHE_HOME/nextmove/programs, by default in ~/.cache."""
    return cache_folder("programs")


def take(name: str) -> tuple[Any, memoryview] | None:
    """What `keep` was given under this name: plain values and the program; None where there is no whole one.

    The program lies in the file's own pages, at a multiple of `ALIGNED` bytes, and can be written to: nothing of that
    reaches the file.
    """
    path = folder() / name
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        os.utime(path)
    except (OSError, ValueError):  # the latter of an empty file
        return None
    start = 32 + int.from_bytes(content[32:40], "big")
    return json.loads(bytes(content[40:start])), content[start:]


def keep(name: str, values: Any, program: bytes) -> None:
    """Keeps a program with plain JSON values beside it; warns where it cannot be written, which costs time only."""
    head = json.dumps(values).encode()
    start = -(-(8 + 32 + len(head)) // ALIGNED) * ALIGNED
    content = (start - 32).to_bytes(8, "big") + head.ljust(start - 40) + program
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_bytes(folder() / name, hashlib.sha256(content).digest() + content)
    except OSError as problem:
        warnings.warn(f"{folder()}: compiled networks cannot be kept here: {problem}", stacklevel=2)
        return
    _tidy()


def _tidy() -> None:
    """Removes the longest unused until the rest takes no more than MOST."""
    files: list[tuple[float, int, Path]] = []
    for path in folder().iterdir():
        with suppress(OSError):  # another process was faster
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    used = 0
    for _, size, path in sorted(files, reverse=True):
        used += size
        if used > MOST:
            with suppress(OSError):
                path.unlink()
