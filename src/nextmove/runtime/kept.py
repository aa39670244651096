"""Compiled programs kept between processes, in the user's cache folder: one file each, named by all it depends on.

Each is written whole under a temporary name, so that processes that write the same one at once do each other no harm,
and begins with a hash of the rest: a damaged one is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from nextmove.host.files import cache_folder, write_bytes

MOST = 4 << 30
"""Bytes that all of them may take; the longest unused go first."""


def folder() -> Path:
    """Where they lie: $XDG_CACHE_HOME/nextmove/programs, by default in ~/.cache."""
    return cache_folder("programs")


def take(name: str) -> tuple[Any, bytes] | None:
    """What `keep` was given under this name: plain values and the program; None where there is no whole one."""
    path = folder() / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        os.utime(path)
    except OSError:
        return None
    head, _, program = content[32:].partition(b"\n")
    return json.loads(head), program


def keep(name: str, values: Any, program: bytes) -> None:
    """Keeps a program with plain JSON values beside it; warns where it cannot be written, which costs time only."""
    content = json.dumps(values).encode() + b"\n" + program
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
