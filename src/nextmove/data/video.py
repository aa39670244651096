"""Frames out of video files: an index of every frame's time, a decoder kept open, only wanted frames converted.

Where a seek lands is never trusted: containers compare decoding times or presentation times, and mark as key frames
what decodes from further back. Shapes: n frames asked for, H height, W width, C channels.
"""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.depth import dequantize
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature
from nextmove.data.tables import Array

IN_ORDER = ("av1", "vp8", "vp9", "mjpeg", "ffv1", "png")
"""Codecs that present frames as they decode them: the index of an mp4 file then holds their times."""
ROUNDED = 1e-4
"""Seconds by which stored times may be off, float32 or rounded as they are."""


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
    """One video file: `seconds` (F,) float64 of its frames in order of presentation; `frame(number)` decodes one.

    earliest: gives the first time asked of the file, s. Files that begin later than 0 (fragmented mp4, no edit list)
    count from their first frame, unless that frame's own time is the one asked for.
    """

    def __init__(self, path: Path, feature: Feature, earliest: Callable[[], float] = lambda: 0.0) -> None:
        import av
        from av.video.frame import PictureType
        from av.video.reformatter import VideoReformatter

        if not path.is_file():
            raise DataError(f"{path}: video file of {feature.name!r} is missing")
        _check_whole(path)
        try:
            self._container: Any = av.open(str(path))
            self._stream: Any = self._container.streams.video[0]
            self._in_order = self._stream.codec_context.codec.canonical_name in IN_ORDER
            self._lead = 0
            self._pts, self._keys = self._index()
        except (av.FFmpegError, IndexError) as problem:
            raise DataError(f"{path}: not a readable video, truncated or never closed ({problem})") from None
        if not len(self._pts):
            raise DataError(f"{path}: holds no frame")
        self.path, self.feature = path, feature
        # One thread: several would delay the first frame after every seek, and workers already use every core.
        self._stream.codec_context.thread_count = 1
        self._reformatter = VideoReformatter()
        self._problem, self._whole = av.FFmpegError, (PictureType.I, PictureType.NONE)
        self._decoder: Iterator[Any] | None = None
        self._next = self._early = 0
        self._turns: int | None = None
        codec = self._stream.codec_context
        self.size: tuple[int, int] = (codec.height, codec.width)
        """Height and width as stored, before a turn that the file may ask for."""
        self.tick = float(self._stream.time_base or 0)
        self.seconds: Array = self._pts * self.tick
        begin = float(self.seconds[0])
        if abs(begin) > self.tick and abs(earliest() - begin) > self.tick + ROUNDED:
            self.seconds = (self._pts - self._pts[0]) * self.tick

    @property
    def rate(self) -> float | None:
        """Frames a second, by the median of the times between two; None for a single frame."""
        return 1 / float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else None

    def _index(self) -> tuple[Array, Array]:
        """Presentation times (F,) int64 in ticks, ascending, and the positions among them of key frames."""
        stream = self._stream
        entries = None
        if self._in_order and self._container.format.name.startswith("mov"):
            entries = getattr(stream, "index_entries", None)
        if entries is None or len(entries) != stream.frames:  # A fragmented file lists some of its frames only.
            packets = [p for p in self._container.demux(stream) if p.pts is not None and not p.is_discard]
            marks = [(p.pts, p.is_keyframe) for p in packets]
            self._lead = max((p.pts - p.dts for p in packets if p.is_keyframe and p.dts is not None), default=0)
            self._container.seek(0, stream=stream)
        else:
            marks = [(e.timestamp, e.is_keyframe) for e in entries if not e.is_discard]
        marks.sort()
        return np.array([m[0] for m in marks], np.int64), np.flatnonzero([m[1] for m in marks])

    def numbers(self, seconds: Array, tolerance: float) -> Array:
        """The frames nearest to `seconds` (n,); raises `DataError` where none is within `tolerance` seconds.

        A file that counts time in coarser ticks (mkv: 1 ms) may be off by one of them.
        """
        if not np.isfinite(seconds).all():
            found = seconds[~np.isfinite(seconds)][0]
            raise DataError(
                f"{self.path}: {self.feature.name!r}: expected the time of a frame in seconds, found {found}"
            )
        tolerance = tolerance if self.tick <= tolerance else tolerance + self.tick
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

    def frame(self, number: int) -> Array:
        """(H, W, 3) uint8, as players show it; depth (H, W, 1) float32 millimetres.

        Raises `DataError` for a frame that cannot be decoded.
        """
        return self._convert(self._decode(number))

    def _decode(self, number: int) -> Any:
        before = int(np.searchsorted(self._keys, number, side="right"))
        key = int(self._keys[before - 1]) if before else 0
        why = "it is not in the file, or damaged"
        going = self._decoder is not None and self._next <= number and key <= self._next
        landings = self._landings(before)
        for target in itertools.chain((None,), landings) if going else landings:
            try:
                if target is not None:
                    self._container.seek(target, stream=self._stream, backward=True)
                    self._decoder = self._container.decode(self._stream)
                found = self._advance(number, landed=target is not None)
            except self._problem as problem:
                self._decoder, why = None, f"the file is damaged ({problem})"
                continue
            if found is not None:
                return found
        raise DataError(f"{self.path}: frame {number} of {len(self._pts)} cannot be decoded, {why}")

    def broken(self) -> Array:
        """Which frames (F,) do not come out whole when the file is decoded from end to end."""
        out, damaged = np.ones(len(self._pts), bool), False
        self._decoder = None
        try:
            self._container.seek(int(self._pts[0]) - self._lead, stream=self._stream, backward=True)
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except self._problem:
                    damaged = True  # What refers to this packet is not to be trusted, up to the next key frame.
                    continue
                for frame in frames:
                    damaged = damaged and not frame.key_frame
                    place = int(np.searchsorted(self._pts, -1 if frame.pts is None else frame.pts))
                    if place < len(out) and self._pts[place] == frame.pts and not frame.is_corrupt:
                        out[place] = damaged
        except self._problem:
            pass  # The container ends here; the frames behind stay broken.
        return out

    def _landings(self, before: int) -> Iterator[int]:
        """Times to seek to, in ticks, each earlier than the last, for a frame that has `before` key frames up to it."""
        keys = self._keys
        if before:
            yield int(self._pts[keys[before - 1]]) - self._early
            if self._early < self._lead:
                # This file compares decoding times, or begins here a frame that needs older ones.
                self._early = self._lead
                yield int(self._pts[keys[before - 1]]) - self._early
            back = 2
            while back <= before:
                yield int(self._pts[keys[before - back]]) - self._early
                back *= 2
        yield int(self._pts[0]) - self._lead

    def _advance(self, number: int, *, landed: bool) -> Any:
        """The frame `number`, or None if it does not come, or if a decoder that has `landed` cannot be trusted."""
        wanted = int(self._pts[number])
        check = landed and not self._in_order
        for frame in self._decoder or ():
            if check and frame.pict_type not in self._whole and frame.pts != self._pts[0]:
                self._keys = self._keys[:1]  # Refreshed bit by bit: no image but the first stands for itself.
                break
            check = False
            if frame.pts is None or frame.pts < wanted:
                continue
            self._next = number + 1
            if frame.pts == wanted and not frame.is_corrupt:
                return frame
            break
        self._decoder = None
        return None

    def _convert(self, frame: Any) -> Array:
        if not self.feature.is_depth:
            return self._upright(frame, self._reformat(frame, "rgb24").to_ndarray())
        depth = dequantize(self._reformat(frame, "gray12le").to_ndarray(), self.feature.info)[..., None]
        return self._upright(frame, depth)

    def _upright(self, frame: Any, pixels: Array) -> Array:
        """Turned as the file asks players to, unless the data set describes the frames as they are stored."""
        if self._turns is None:
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            stored, shown = pixels.shape[:2], pixels.shape[:2][:: -1 if turns % 2 else 1]
            self._turns = 0 if self.feature.shape[:2] == stored != shown else turns
        return np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns else pixels

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

    def get(self, path: Path, feature: Feature, earliest: Callable[[], float]) -> VideoFile:
        """The open file; raises `DataError` naming a missing or truncated one; `earliest` as of `VideoFile`."""
        if self._process != os.getpid():
            # Decoders of the parent process would read from offsets that it moves. They are left alone, not closed:
            # closing waits for threads that only the parent has.
            self._parents.append(self._files)
            self._files, self._process = OrderedDict(), os.getpid()
        file = self._files.pop(path, None) or VideoFile(path, feature, earliest)
        self._files[path] = file
        while len(self._files) > self.limit:
            self._files.popitem(last=False)[1].close()
        return file

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without the open files, which no other process can use."""
        return OpenVideos, (self.limit,)
