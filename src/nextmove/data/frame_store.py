"""Decoded frames of a camera on disk, at the size that training reads: mapped into memory, shared by workers and runs.

A store is a folder of segments. A segment is one file: the raw uint8 frames of consecutive episodes, row after row, and
behind them what they were made from. It is written whole and replaced whole, so that whoever has mapped it keeps it.
Shapes: n rows asked for, H height and W width as stored, C channels.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature
from nextmove.data.tables import Array

SEGMENT = 128 << 20
"""Bytes of frames from which a segment ends: few files to gather from, and enough of them for all processes."""
FORMAT = 1
END = 8
"""Bytes of the number at the end of a segment that says how long the text before it is."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Segment:
    """Episodes first to last (exclusive) and their rows start to stop (exclusive)."""

    number: int
    first: int
    last: int
    start: int
    stop: int


@dataclass(frozen=True)
class Stored:
    """A segment's file and what is known of it: a hash of what it was made from, and why episodes have no frames."""

    path: Path
    segment: Segment
    source: str
    broken: Mapping[int, str]


def store_folder(base: Path, camera: str, size: Size) -> Path:
    """The folder of one camera at one size."""
    return base / f"{camera}-{size[0]}x{size[1]}"


def segments(dataset: Dataset, size: Size, channels: int) -> list[Segment]:
    """All episodes in segments of at least `SEGMENT` bytes but the last; episodes added later change only that one."""
    start, stop = dataset.episode_from, dataset.episode_to
    most = max(1, SEGMENT // (size[0] * size[1] * channels))
    out: list[Segment] = []
    first = 0
    for e in range(dataset.num_episodes):
        if stop[e] - start[first] >= most or e == dataset.num_episodes - 1:
            out.append(Segment(len(out), first, e + 1, int(start[first]), int(stop[e])))
            first = e + 1
    return out


def needed(parts: Sequence[Segment], episodes: Array) -> list[Segment]:
    """The segments that hold one of these episodes."""
    wanted = {*episodes.tolist()}
    return [part for part in parts if not wanted.isdisjoint(range(part.first, part.last))]


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"segment-{number:05d}.u8"


def footer(segment: Segment, shape: Sequence[int], source: str, broken: Mapping[int, str]) -> bytes:
    """What stands behind the frames of a segment."""
    said = {"format": FORMAT, "shape": list(shape), "source": source, "broken": broken}
    text = json.dumps(said | {"rows": [segment.start, segment.stop]}).encode()
    return text + len(text).to_bytes(END, "little")


def read_footer(path: Path, segment: Segment, shape: Sequence[int]) -> Stored | None:
    """A segment's file, or None where there is no whole one of these rows and this shape."""
    frames = (segment.stop - segment.start) * int(np.prod(shape))
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < frames + END:
                return None
            file.seek(frames)
            text = file.read()
        said = json.loads(text[:-END])
        same = (said["format"], said["shape"], said["rows"]) == (FORMAT, [*shape], [segment.start, segment.stop])
        broken = {int(episode): str(why) for episode, why in said["broken"].items()}
        whole = int.from_bytes(text[-END:], "little") == len(text) - END
        return Stored(path, segment, str(said["source"]), broken) if whole and same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class StoredCamera:
    """A camera whose frames are read from a store, as they lie there."""

    def __init__(self, feature: Feature, size: Size, parts: Sequence[Stored]) -> None:
        self.feature = replace(feature, shape=(*size, feature.shape[2]))
        self.parts = tuple(parts)
        self._open()

    def _open(self) -> None:
        self._start = np.array([part.segment.start for part in self.parts], np.int64)
        self._stop = np.array([part.segment.stop for part in self.parts], np.int64)
        self._frames = [self._map(part) for part in self.parts]

    def _map(self, part: Stored) -> Array:
        with part.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = part.segment.stop - part.segment.start
        frames = np.frombuffer(mapped, np.uint8, count * int(np.prod(self.feature.shape)))
        return frames.reshape(count, *self.feature.shape)

    def frames(self, rows: Array) -> Array:
        """(n, H, W, C) uint8 of the row numbers (n,); raises `DataError` for a row that is in no segment."""
        place = np.searchsorted(self._stop, rows, side="right")
        inside = place < len(self.parts)
        if not inside.all() or (rows < self._start[place]).any():
            row = int(rows[~inside][0] if not inside.all() else rows[rows < self._start[place]][0])
            raise DataError(f"{self.feature.name!r}: row {row} is not among the frames that were stored")
        out = np.empty((len(rows), *self.feature.shape), np.uint8)
        for number in np.unique(place).tolist():
            here = np.flatnonzero(place == number)
            found, first = self._frames[number], self._start[number]
            if len(here) == len(rows):
                return np.take(found, rows - first, axis=0, out=out, mode="clip")
            out[here] = np.take(found, rows[here] - first, axis=0)
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the mapped files, which are mapped again."""
        return {"feature": self.feature, "parts": self.parts}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
