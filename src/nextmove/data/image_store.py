"""Images of a folder, decoded once: one file of uint8 pixels at the size that training reads, mapped into memory.

As a segment of `frame_store` it is raw frames and behind them what they were made from, written whole and replaced
whole. Shapes: N images, n asked for, H height, W width.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nextmove.data.errors import DataError
from nextmove.data.frame_store import END
from nextmove.data.frames import FOLDER, SPARE, Bar, Say, no_bar
from nextmove.data.image_fit import Fit, decode_fitted
from nextmove.data.tables import Array
from nextmove.host.files import cache_folder, naming, replacing, room, write_text
from nextmove.host.threads import cores
from nextmove.host.workers import Failure, run_tasks

FORMAT = 1
CHUNK = 32
"""Images that a process decodes at a time."""
FEW = 512
"""Images that this process decodes by itself: starting others would take longer."""
GB = 1_000_000_000


class Known(NamedTuple):
    """A file as it was when its image was decoded: bytes, time of its last change, hash of its content, and why its
    pixels are absent ("" where they are there)."""

    size: int
    changed: int
    hash: str
    broken: str


@dataclass(frozen=True)
class Wanted:
    """Files of a folder by name, and the size (height, width) and fit of their images."""

    folder: Path
    names: tuple[str, ...]
    size: tuple[int, int]
    fit: Fit

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of one image."""
        return (*self.size, 3)

    @property
    def bytes(self) -> int:
        """Of all images."""
        return len(self.names) * int(np.prod(self.shape))

    @property
    def file(self) -> str:
        """Name of the store."""
        return f"images-{self.fit}-{self.size[0]}x{self.size[1]}.u8"


class ImageStore:
    """Images by number, read from a mapped file; its processes map it again."""

    def __init__(self, path: Path, wanted: Wanted, known: Sequence[Known]) -> None:
        self.path, self.wanted, self.known = path, wanted, tuple(known)
        self._open()

    def _open(self) -> None:
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        pixels = np.frombuffer(mapped, np.uint8, self.wanted.bytes)
        self.pixels: Array = pixels.reshape(len(self.wanted.names), *self.wanted.shape)

    def frames(self, numbers: Array) -> Array:
        """(n, H, W, 3) uint8 of the images of these numbers (n,)."""
        return np.take(self.pixels, numbers, axis=0)

    @property
    def broken(self) -> dict[str, str]:
        """Why images cannot be read, by name."""
        return {name: one.broken for name, one in zip(self.wanted.names, self.known, strict=True) if one.broken}

    @property
    def hashes(self) -> Array:
        """(N,) uint64 of the files' contents."""
        return np.array([int(one.hash or "0", 16) for one in self.known], np.uint64)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "wanted": self.wanted, "known": self.known}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def stored_images(wanted: Wanted, *, say: Say = print, bar: Bar = no_bar) -> ImageStore:
    """The store of these images: as it lies there, or made, decoding only what is new or has changed.

    It lies in the folder, or in the user's cache folder where nothing can be written there. Raises OSError where the
    disk has no room for it.
    """
    path = _place(wanted.folder) / wanted.file
    states = [_state(wanted.folder / name) for name in wanted.names]
    old = _read(path, wanted)
    if old is not None and old.wanted == wanted and [(k.size, k.changed) for k in old.known] == states:
        return old
    return _make(path, wanted, states, old, say, bar)


def _make(
    path: Path, wanted: Wanted, states: Sequence[tuple[int, int]], old: ImageStore | None, say: Say, bar: Bar
) -> ImageStore:
    kept = {} if old is None else _kept(old, wanted, states)
    new = [i for i in range(len(wanted.names)) if i not in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    if wanted.bytes + SPARE > room(path.parent):
        free = max(0, room(path.parent) - SPARE) / GB
        raise OSError(28, f"images decoded at {wanted.size} take {wanted.bytes / GB:.3g} GB, {free:.3g} are free", path)
    many = f"{len(new)} of {len(wanted.names)} ({wanted.bytes / GB:.3g} GB)"
    say(f"images: decoding {many} into {path}, once for all runs")
    known: list[Known] = [Known(0, 0, "", "")] * len(wanted.names)
    one = int(np.prod(wanted.shape))
    with replacing(path) as part, naming(path), part.open("wb") as file, bar(len(new)) as move:
        for i, j in kept.items():
            assert old is not None
            file.seek(i * one)
            file.write(old.pixels[j].data)
            known[i] = old.known[j]
        chunks = [new[at : at + CHUNK] for at in range(0, len(new), CHUNK)]

        def done(result: _Decoded | Failure) -> None:
            if isinstance(result, Failure):
                raise DataError(f"{wanted.folder}: {result.reason}")
            for i, (pixels, hashed, why) in zip(result.numbers, result.found, strict=True):
                if pixels is not None:
                    file.seek(i * one)
                    file.write(pixels.data)
                known[i] = Known(*states[i], hashed, why)
            move(len(result.numbers))

        workers = cores() if len(new) > FEW and cores() > 1 else 0
        run_tasks(partial(_Decoder, wanted), chunks, workers=workers, done=done)
        file.seek(wanted.bytes)
        file.write(_footer(wanted, known))
    write_text(path.parent / ".gitignore", "*\n")
    return ImageStore(path, wanted, known)


def _kept(old: ImageStore, wanted: Wanted, states: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Numbers of the images whose files are as they were, and their numbers in the old store."""
    there = {name: i for i, name in enumerate(old.wanted.names)}
    found = ((i, there.get(name, -1)) for i, name in enumerate(wanted.names))
    return {i: j for i, j in found if j >= 0 and (old.known[j].size, old.known[j].changed) == states[i]}


@dataclass(frozen=True)
class _Decoded:
    """Images by number: pixels or None, hash of the file, why there are no pixels."""

    numbers: Sequence[int]
    found: Sequence[tuple[Array | None, str, str]]


class _Decoder:
    """Decodes some of the images; made anew in every process."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def __call__(self, numbers: Sequence[int]) -> _Decoded:
        return _Decoded(numbers, [self._one(self.wanted.folder / self.wanted.names[i]) for i in numbers])

    def _one(self, path: Path) -> tuple[Array | None, str, str]:
        try:
            blob = path.read_bytes()
        except OSError as problem:
            return None, "", f"{path}: {problem.strerror}"
        hashed = blake2b(blob, digest_size=8).hexdigest()
        try:
            pixels = decode_fitted(blob, self.wanted.size, self.wanted.fit, str(path))
        except DataError as problem:
            return None, hashed, str(problem)
        return np.ascontiguousarray(pixels), hashed, ""


def _footer(wanted: Wanted, known: Sequence[Known]) -> bytes:
    said = {"format": FORMAT, "size": wanted.size, "fit": wanted.fit, "names": wanted.names, "known": known}
    text = json.dumps(said).encode()
    return text + len(text).to_bytes(END, "little")


def _read(path: Path, wanted: Wanted) -> ImageStore | None:
    """The store of a file at the same size and fit, of whatever images; None where there is no whole one."""
    try:
        with path.open("rb") as file:
            whole = file.seek(0, os.SEEK_END)
            file.seek(whole - END)
            length = int.from_bytes(file.read(), "little")
            file.seek(whole - END - length)
            said = json.loads(file.read(length))
        found = Wanted(wanted.folder, tuple(said["names"]), tuple(said["size"]), said["fit"])
        same = (said["format"], found.size, found.fit) == (FORMAT, wanted.size, wanted.fit)
        known = [Known(*one) for one in said["known"]]
        if not same or whole != found.bytes + length + END or len(known) != len(found.names):
            return None
        return ImageStore(path, found, known)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def _place(folder: Path) -> Path:
    """Where the store lies: in the folder where that can be written, else in the user's cache."""
    with suppress(OSError):
        (folder / FOLDER).mkdir(exist_ok=True)
        if os.access(folder / FOLDER, os.W_OK):
            return folder / FOLDER
    where = folder.resolve()
    return cache_folder("frames") / f"{where.name}-{blake2b(str(where).encode(), digest_size=4).hexdigest()}"
