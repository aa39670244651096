"""Images by row number, whether they lie in mp4 files or inside parquet.

Shapes: n rows asked for, H height, W width, C channels, G row groups.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nextmove.data.episodes import Clips, Episodes
from nextmove.data.errors import DataError
from nextmove.data.image_files import decode
from nextmove.data.layout import Feature
from nextmove.data.tables import Array, open_parquet
from nextmove.data.video import OpenVideos, VideoFile


class Camera(Protocol):
    """The protocol of a camera."""

    feature: Feature

    def frames(self, rows: Array) -> Array:
        """The images of row numbers (n,), in that order: (n, H, W, C) uint8; depth float32 in millimetres."""
        ...


OTHER_RATE = 0.01
"""Share by which two rates of frames differ at least that are said to be different."""

Decode = Callable[[Array], Iterator[tuple[int, Array]]]
"""Ascending distinct rows -> (row, frame) in any order."""


class FrameCache:
    """Decoded frames used last, at most `limit` bytes of them; 0 keeps nothing."""

    def __init__(self, limit: int) -> None:
        self.limit, self._bytes = limit, 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], Array] = OrderedDict()

    def get(self, camera: str, row: int) -> Array | None:
        """The frame, marked as used last, or None."""
        with self._lock:
            frame = self._frames.get((camera, row))
            if frame is not None:
                self._frames.move_to_end((camera, row))
            return frame

    def put(self, camera: str, row: int, frame: Array) -> None:
        """Keep the frame, dropping those unused longest."""
        with self._lock:
            if frame.nbytes > self.limit or (camera, row) in self._frames:
                return
            self._frames[camera, row] = frame
            self._bytes += frame.nbytes
            while self._bytes > self.limit:
                self._bytes -= self._frames.popitem(last=False)[1].nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as an empty one of the same limit: another process decodes for itself."""
        return FrameCache, (self.limit,)


def gather(camera: str, rows: Array, cache: FrameCache, decode: Decode) -> Array:
    """Frames (n, H, W, C) of `rows`, each decoded once: from the cache, or by `decode(missing ascending rows)`."""
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        places.setdefault(row, []).append(place)
    known = {row: cache.get(camera, row) for row in places} if cache.limit else {}
    missing = np.array(sorted(row for row in places if known.get(row) is None), np.int64)
    out: Array | None = None
    for row, frame in known.items():
        if frame is not None:
            out = _place(out, len(rows), places[row], frame, camera, row)
    for row, frame in decode(missing) if len(missing) else ():
        out = _place(out, len(rows), places[row], frame, camera, row)
        cache.put(camera, row, frame)
    if out is None:
        raise DataError(f"{camera!r}: expected at least one row, found none")
    return out


def _place(out: Array | None, count: int, places: list[int], frame: Array, camera: str, row: int) -> Array:
    if out is None:
        out = np.empty((count, *frame.shape), frame.dtype)
    if out.shape[1:] != frame.shape:
        raise DataError(f"{camera!r}: frame of row {row}: expected shape {out.shape[1:]}, found {frame.shape}")
    for place in places:
        out[place] = frame
    return out


class VideoCamera:
    """A camera whose frames lie in mp4 files."""

    def __init__(
        self,
        feature: Feature,
        episodes: Episodes,
        timestamps: Callable[[], Array],
        cache: FrameCache,
        tolerance: float,
        fps: float,
    ) -> None:
        self.feature, self.episodes, self.cache, self.fps = feature, episodes, cache, fps
        self.clips: Clips = episodes.clips[feature.name]
        self._timestamps, self._tolerance = timestamps, tolerance
        # Of its own: cameras decode in threads, and one must not close a file that another is reading.
        self._videos = OpenVideos()

    def frames(self, rows: Array) -> Array:
        """(n, H, W, 3) uint8 of the row numbers (n,); raises `DataError` naming the file where one cannot be read."""
        return gather(self.feature.name, rows, self.cache, self._decode)

    def seconds(self, rows: Array) -> Array:
        """Times (n,) float64 of the rows in the files of their episodes."""
        offset: Array = self.clips.offset[self.episodes.of_rows(rows)]
        return offset + self._timestamps()[rows].astype(np.float64)

    def _decode(self, rows: Array) -> Iterator[tuple[int, Array]]:
        files, seconds = self.clips.file_of[self.episodes.of_rows(rows)], self.seconds(rows)
        # The stored times are float32: late ones are off by more than the tolerance, through no fault of the video.
        tolerance = self._tolerance + float(np.spacing(np.float32(seconds.max())))
        for file in np.unique(files).tolist():
            inside = np.flatnonzero(files == file)
            video = self._videos.get(self.clips.files[file], self.feature, partial(self.earliest, file))
            try:
                numbers = video.numbers(seconds[inside], tolerance)
            except DataError as problem:
                raise DataError(f"{problem}{self.rates(video)}") from None
            order = np.argsort(numbers, kind="stable")
            distinct, first = np.unique(numbers[order], return_index=True)
            for number, here in zip(distinct.tolist(), np.split(inside[order], first[1:]), strict=True):
                try:
                    frame = video.frame(number)
                except DataError as problem:
                    raise self.episodes.damaged(int(rows[here[0]]), f"{problem}; {self.feature.name!r}") from None
                for row in rows[here].tolist():
                    yield row, frame

    def rates(self, video: VideoFile) -> str:
        """What to say of a video that has another rate than the data set; nothing where it is the same."""
        if video.rate is None or abs(video.rate / self.fps - 1) < OTHER_RATE:
            return ""
        return f"; the video shows {video.rate:.4g} frames a second, info.json says fps {self.fps:g}"

    def earliest(self, file: int) -> float:
        """The first time asked of a file, s."""
        episodes = np.flatnonzero((self.clips.file_of == file) & (self.episodes.stop > self.episodes.start))
        return float(self.seconds(self.episodes.start[episodes]).min()) if len(episodes) else 0.0


class ImageCamera:
    """A camera whose frames are encoded images (PNG, TIFF, JPEG) inside parquet."""

    def __init__(self, feature: Feature, episodes: Episodes, cache: FrameCache, keep: int = 1 << 29) -> None:
        self.feature, self.episodes, self.cache = feature, episodes, cache
        self._files, self._keep = episodes.data_files, keep
        self._groups: list[tuple[Path, int]] | None = None
        self._stop = np.zeros(0, np.int64)
        self._blobs: OrderedDict[int, Any] = OrderedDict()

    def frames(self, rows: Array) -> Array:
        """(n, H, W, C) uint8 of the row numbers (n,), 16-bit and float images as float32."""
        return gather(self.feature.name, rows, self.cache, self._decode)

    def files(self, rows: Array) -> list[Path]:
        """The tables that hold these rows, in order."""
        group = np.searchsorted(self._bounds(), rows, side="right")
        return list(dict.fromkeys((self._groups or [])[g][0] for g in np.unique(group).tolist()))

    def _decode(self, rows: Array) -> Iterator[tuple[int, Array]]:
        group = np.searchsorted(self._bounds(), rows, side="right")
        for row, g in zip(rows.tolist(), group.tolist(), strict=True):
            blobs = self._group(g)
            first = int(self._stop[g]) - len(blobs)
            try:
                yield row, self._image(blobs[row - first].as_py())
            except (OSError, ValueError) as problem:
                path = (self._groups or [])[g][0]
                why = f": no image to decode ({problem})"
                raise self.episodes.damaged(row, f"{path}: {self.feature.name!r}", why) from None

    def _bounds(self) -> Array:
        """The exclusive last row of every row group (G,), read from the footers once."""
        if self._groups is None:
            groups, lengths = [], []
            for path in self._files:
                with open_parquet(path) as file:
                    meta = file.metadata
                    groups += [(path, g) for g in range(meta.num_row_groups)]
                    lengths += [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
            self._groups, self._stop = groups, np.cumsum(lengths, dtype=np.int64)
        return self._stop

    def _group(self, number: int) -> Any:
        """The encoded images of one row group; those used last stay in memory, about `keep` bytes of them."""
        if number in self._blobs:
            self._blobs.move_to_end(number)
            return self._blobs[number]
        path, group = (self._groups or [])[number]
        with open_parquet(path) as file:
            if self.feature.name not in file.schema_arrow.names:
                raise DataError(f"{path}: column {self.feature.name!r} is missing")
            column = file.read_row_group(group, columns=[self.feature.name], use_threads=False).column(0)
        kind = str(column.type)
        if not kind.startswith(("struct<bytes", "binary", "large_binary")):
            raise DataError(f"{path}: column {self.feature.name!r}: expected encoded images, found {kind}")
        blobs = column.combine_chunks()
        self._blobs[number] = blobs.field("bytes") if kind.startswith("struct") else blobs
        while len(self._blobs) > 1 and sum(b.nbytes for b in self._blobs.values()) > self._keep:
            self._blobs.popitem(last=False)
        return self._blobs[number]

    def _image(self, blob: bytes | None) -> Array:
        if blob is None:
            raise ValueError("the table holds a path instead of its bytes")
        pixels = decode(blob, self.feature.shape[2])
        if pixels.dtype != np.uint8:
            pixels = pixels.astype(np.float32)
            if self.feature.info.get("depth_unit") == "m":
                pixels *= 1000
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def __getstate__(self) -> dict[str, Any]:
        """Without the images read so far."""
        return {**self.__dict__, "_blobs": OrderedDict()}
