"""Frames out of mp4 files: an index of every frame's time, a decoder kept open, only wanted frames converted.

Letters: n frames asked for, H height, W width, C channels.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.depth import dequantize
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature
from nextmove.data.tables import Array

REORDERING = ("h264", "hevc", "mpeg4")
"""Codecs whose container index holds decoding times, not presentation times, so that packets must be read."""


def _check_whole(path: Path) -> None:
    """Raise `DataError` where a box of an mp4 file claims more bytes than there are; decoders may not notice."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            if place == 0 and head[4:8] != b"ftyp":
                return
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - place
            place += max(8, length)
    if place > size:
        raise DataError(f"{path}: truncated, {size} bytes of at least {place} are there")


class VideoFile:
    """One mp4: `seconds` (F,) float64 of its frames in order of presentation; `frames(numbers)` decodes some."""

    def __init__(self, path: Path, feature: Feature) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        if not path.exists():
            raise DataError(f"{path}: video file of {feature.name!r} is missing")
        _check_whole(path)
        try:
            self._container: Any = av.open(str(path))
            self._stream: Any = self._container.streams.video[0]
            self._pts, self._keys = self._index()
        except (av.FFmpegError, IndexError) as problem:
            raise DataError(f"{path}: not a readable video, truncated or never closed ({problem})") from None
        self.path, self.feature = path, feature
        # One thread: several would delay the first frame after every seek, and workers already use every core.
        self._stream.codec_context.thread_count = 1
        self._reformatter = VideoReformatter()
        self._decoder: Iterator[Any] | None = None
        self._next = 0
        self.seconds: Array = self._pts * float(self._stream.time_base or 0)

    def _index(self) -> tuple[Array, Array]:
        """Presentation times (F,) int64 in ticks, ascending, and the positions among them of key frames."""
        stream = self._stream
        entries = getattr(stream, "index_entries", None)
        if stream.codec_context.codec.canonical_name in REORDERING or entries is None:
            packets = [p for p in self._container.demux(stream) if p.pts is not None and not p.is_discard]
            marks = [(p.pts, p.is_keyframe) for p in packets]
            self._container.seek(0, stream=stream)
        else:
            marks = [(e.timestamp, e.is_keyframe) for e in entries if not e.is_discard]
        marks.sort()
        return np.array([m[0] for m in marks], np.int64), np.flatnonzero([m[1] for m in marks])

    def numbers(self, seconds: Array, tolerance: float) -> Array:
        """The frames nearest to `seconds` (n,); raises `DataError` where none is within `tolerance` seconds."""
        if not len(self.seconds):
            raise DataError(f"{self.path}: holds no frame")
        right = np.searchsorted(self.seconds, seconds).clip(1, max(1, len(self.seconds) - 1))
        right = np.minimum(right, len(self.seconds) - 1)
        left = np.maximum(right - 1, 0)
        nearer = np.abs(seconds - self.seconds[left]) <= np.abs(self.seconds[right] - seconds)
        best: Array = np.where(nearer, left, right)
        off = np.abs(self.seconds[best] - seconds)
        worst = int(off.argmax()) if len(off) else 0
        if len(off) and off[worst] >= tolerance:
            raise DataError(
                f"{self.path}: {self.feature.name!r} has no frame at {seconds[worst]:.6f} s: the nearest is "
                f"{off[worst]:.6f} s away, allowed are {tolerance} s; the file ends at {self.seconds[-1]:.6f} s"
            )
        return best

    def frames(self, numbers: Array) -> Iterator[tuple[int, Array]]:
        """(number, frame) for ascending distinct `numbers`: (H, W, 3) uint8, depth (H, W, 1) float32 millimetres."""
        for number in numbers.tolist():
            yield number, self._convert(self._decode(number))

    def _decode(self, number: int) -> Any:
        import av

        before = int(np.searchsorted(self._keys, number, side="right"))
        key = int(self._keys[before - 1]) if before else 0
        if self._decoder is None or self._next > number or key > self._next:
            self._seek(key)
        try:
            found = self._advance(number)
            if found is None:  # The container seeks to another place than its index says: decode from the beginning.
                self._seek(0)
                found = self._advance(number)
        except av.FFmpegError as problem:
            raise DataError(f"{self.path}: frame {number} cannot be decoded, the file is damaged ({problem})") from None
        if found is None:
            raise DataError(f"{self.path}: frame {number} of {len(self._pts)} is not in the file, it is truncated")
        return found

    def _seek(self, number: int) -> None:
        self._container.seek(int(self._pts[number]), stream=self._stream, backward=True)
        self._decoder = self._container.decode(self._stream)

    def _advance(self, number: int) -> Any:
        """The frame `number`, or None if the decoder is already past it or at the end."""
        wanted = int(self._pts[number])
        for frame in self._decoder or ():
            if frame.pts is None or frame.pts < wanted:
                continue
            self._next = number + 1
            if frame.pts == wanted:
                return frame
            break
        self._decoder = None
        return None

    def _convert(self, frame: Any) -> Array:
        if not self.feature.is_depth:
            rgb: Array = self._reformat(frame, "rgb24").to_ndarray()
            return rgb
        return dequantize(self._reformat(frame, "gray12le").to_ndarray(), self.feature.info)[..., None]

    def _reformat(self, frame: Any, pixels: str) -> Any:
        try:
            return self._reformatter.reformat(frame, format=pixels, threads=1)
        except TypeError:  # PyAV before 16 knows no threads here.
            return self._reformatter.reformat(frame, format=pixels)

    def close(self) -> None:
        """Close the file."""
        self._decoder = None
        self._container.close()


class OpenVideos:
    """The video files opened last, at most `limit`; a process that was forked opens its own."""

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self._files: OrderedDict[Path, VideoFile] = OrderedDict()
        self._parents: list[OrderedDict[Path, VideoFile]] = []
        self._process = os.getpid()

    def get(self, path: Path, feature: Feature) -> VideoFile:
        """The open file; raises `DataError` naming a missing or truncated one."""
        if self._process != os.getpid():
            # Decoders of the parent process would read from offsets that it moves. They are left alone, not closed:
            # closing waits for threads that only the parent has.
            self._parents.append(self._files)
            self._files, self._process = OrderedDict(), os.getpid()
        file = self._files.pop(path, None) or VideoFile(path, feature)
        self._files[path] = file
        while len(self._files) > self.limit:
            self._files.popitem(last=False)[1].close()
        return file

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files, which no other process can use."""
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With no file open."""
        self.__init__(state["limit"])  # type: ignore[misc]
