"""A LeRobot data set (v3.x, v2.1, v2.0) as numpy columns in memory, with LeRobot's own items on top.

Shapes: N frames of the whole set, E episodes, n entries of a window, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmove.data.cameras import Camera, FrameCache, ImageCamera, VideoCamera
from nextmove.data.digits import Rounding
from nextmove.data.episodes import Episodes, read_episodes, read_tasks
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature, Info, read_info, read_json, read_json_lines
from nextmove.data.stats import Stats, merge, parse_stats
from nextmove.data.tables import Array, count_rows, read_parts, to_numpy
from nextmove.host.threads import threaded

if TYPE_CHECKING:
    from torch import Tensor


def open_dataset(
    root: str | Path,
    episodes: Sequence[int] | None = None,
    *,
    tolerance: float = 1e-4,
    frame_cache_mb: float = 0.0,
    empty: bool = False,
) -> Dataset:
    """The data set in the folder `root`, reading only its descriptions; columns and frames are read when asked for.

    episodes: keep only these (all if absent); tolerance: seconds a video frame may lie beside its timestamp;
    frame_cache_mb: decoded frames kept in memory (of each process), in 2^20 bytes; empty: whether a set without an
    episode may be opened.
    Raises `DataError` naming the file for anything missing, truncated or of another version.
    """
    info = read_info(Path(root))
    dataset = Dataset(info, read_episodes(info), read_tasks(info), tolerance, int(frame_cache_mb * 2**20))
    if not dataset.num_frames and not empty:
        raise DataError(
            f"{root}: the data set holds no frame, its tables name {dataset.num_episodes} episodes; record some"
        )
    return dataset if episodes is None else dataset.select(episodes)


class Dataset:
    """An opened data set; `len()` counts the frames of the selected episodes, everything else describes the whole set.

    root: its folder; info, features: as in info.json; fps: frames a second; num_episodes, num_frames;
    episode_from, episode_to: (E,) int64 row bounds; tasks: instructions by task_index, which may leave numbers out;
    episodes: (S,) int64 selected episodes, ascending.
    """

    def __init__(
        self, info: Info, episodes: Episodes, tasks: dict[int, str], tolerance: float, cache_bytes: int
    ) -> None:
        self.layout, self.table, self.tasks = info, episodes, tasks
        self.root, self.info, self.fps = info.root, dict(info.raw), float(info.fps)
        self.features: dict[str, dict[str, Any]] = dict(info.raw["features"])
        self.episode_from, self.episode_to = episodes.start, episodes.stop
        self.num_episodes, self.num_frames = len(episodes.start), episodes.frames
        self.tolerance = tolerance
        self.episodes = np.arange(self.num_episodes)
        self._columns: dict[str, Array] = {}
        self._floats: dict[str, Array] = {}
        self.rounding: dict[str, Rounding] = {}
        """What `floats` lost of features of other dtypes."""
        self.checked: dict[str, str] = {}
        """What checks of the whole set found; shared by its selections."""
        self._cameras: dict[str, Camera] = {}
        self._cache = FrameCache(cache_bytes)

    def __len__(self) -> int:
        return int((self.episode_to[self.episodes] - self.episode_from[self.episodes]).sum())

    @property
    def rows(self) -> Array:
        """(len,) int64 row numbers of the selected frames, made anew at every call."""
        return rows_of(self.episode_from[self.episodes], self.episode_to[self.episodes])

    def spans(self, most: int) -> Iterator[slice]:
        """The selected rows as slices of at most `most` rows, in order; episodes that lie side by side share them."""
        if not len(self.episodes):
            return
        start, stop = self.episode_from[self.episodes], self.episode_to[self.episodes]
        first = np.flatnonzero(np.concatenate([[True], start[1:] != stop[:-1]]))
        for begin, end in zip(start[first], stop[np.append(first[1:], len(stop)) - 1], strict=True):
            yield from (slice(a, min(a + most, end)) for a in range(begin, end, most))

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r}, {len(self.episodes)} episodes, {len(self)} frames, {self.fps:g} Hz)"

    def select(self, episodes: Sequence[int] | Array) -> Dataset:
        """The same set with only these episodes, in the order of the file; nothing is read twice."""
        chosen = np.unique(np.asarray(episodes, np.int64))
        wrong = chosen[(chosen < 0) | (chosen >= self.num_episodes)]
        if len(wrong):
            raise DataError(f"{self.root}: episode {wrong[0]} does not exist, there are {self.num_episodes}")
        view = copy.copy(self)
        view.episodes = chosen
        return view

    @property
    def stats(self) -> Stats:
        """The statistics stored with the set (v2.1: its episodes' merged): see `stats.Stats`."""
        path = self.root / "meta" / "stats.json"
        episodes = self.root / "meta" / "episodes_stats.jsonl"
        if path.exists() or not episodes.exists():
            return parse_stats(read_json(path), str(path))
        records = read_json_lines(episodes, {"stats": dict})
        return merge([parse_stats(r["stats"], str(episodes)) for r in records])

    def column(self, name: str) -> Array:
        """A feature of every frame, (N, *shape) in the dtype of info.json; (N,) where the shape is (1,).

        Strings are an object array; raises `DataError` for an unknown name and for cameras (see `video`).
        """
        return self.columns([name])[name]

    def columns(self, names: Sequence[str]) -> dict[str, Array]:
        """Several features at once, reading every file one time."""
        new = [n for n in dict.fromkeys(names) if n not in self._columns]
        for name in new:
            if self.layout.feature(name).is_camera:
                raise DataError(f"{self.root}: {name!r} is a camera; ask video({name!r}).frames(rows)")
        if new:
            self._columns.update(self._read(new))
        return {n: self._columns[n] for n in names}

    def floats(self, names: Sequence[str]) -> dict[str, Array]:
        """Number features of every frame as models compute them, (N, *shape) float32 with at least one axis of shape.

        Other dtypes are cast as they are read, without a copy in their own; `rounding` holds what that lost.
        """
        own = [n for n in names if self.layout.feature(n).dtype == "float32"]
        cast = [n for n in dict.fromkeys(names) if n not in own and n not in self._floats]
        if cast:
            self._floats.update(self._read(cast, single=True))
        columns = self.columns(own) | {n: self._floats[n] for n in names if n not in own}
        return {n: columns[n][:, None] if columns[n].ndim == 1 else columns[n] for n in names}

    def _read(self, names: list[str], single: bool = False) -> dict[str, Array]:
        """The columns, as float32 if `single`."""
        features = [self.layout.feature(n) for n in names]
        out = {f.name: _empty((self.num_frames, *f.item_shape), _kept(f, single)) for f in features}
        rounding, adding = {n: Rounding() for n in names}, Lock()

        def read(file: tuple[Path, int]) -> None:
            path, first = file
            row = first
            for part in read_parts(path, names):
                held = 0
                for f in features:
                    array = to_numpy(part[f.name], f, str(path), row - first)
                    held, room = len(array), max(0, self.num_frames - row)
                    with np.errstate(over="ignore"):
                        out[f.name][row : row + held] = array[:room]
                    if single:
                        with adding:
                            rounding[f.name].add(array[:room], out[f.name][row : row + held])
                row += held

        counts = threaded(count_rows, self.table.data_files)
        threaded(read, list(zip(self.table.data_files, [0, *np.cumsum(counts).tolist()], strict=False)))
        if sum(counts) != self.num_frames:
            held = f"the data files hold {sum(counts)}"
            raise DataError(f"{self.root}: the episodes name {self.num_frames} frames, {held}")
        self.rounding.update(rounding if single else {})
        return out

    def video(self, camera: str) -> Camera:
        """The camera of this name, in mp4 or in parquet: `.frames(rows)` gives (n, H, W, C) uint8."""
        if camera not in self._cameras:
            feature = self.layout.feature(camera)
            if not feature.is_camera:
                raise DataError(f"{self.root}: {camera!r} is no camera but {feature.dtype}")
            self._cameras[camera] = (
                VideoCamera(feature, self.table, self._timestamps, self._cache, self.tolerance, self.fps)
                if feature.is_video
                else ImageCamera(feature, self.table, self._cache)
            )
        return self._cameras[camera]

    def _timestamps(self) -> Array:
        return self.column("timestamp")

    def item(
        self,
        index: int,
        delta_timestamps: Mapping[str, Sequence[float]] | None = None,
        *,
        return_uint8: bool = False,
    ) -> dict[str, Any]:
        """What LeRobot 0.6 answers to `LeRobotDataset(..., delta_timestamps=...)[index]`, as torch tensors and strings.

        index: counts the selected frames; delta_timestamps: seconds beside the frame for some features, whose values
        become windows (n, ...) with a mask `<name>_is_pad` (n,), repeating the episode's edges; cameras are (C, H, W)
        float32 in [0, 1], videos uint8 if return_uint8. Floats are float32, integers int64.
        """
        if not -len(self) <= index < len(self):
            raise DataError(f"{self.root}: frame {index} does not exist, {len(self)} are selected")
        import torch

        row = self._row(index % len(self))
        offsets = {k: self.offsets(k, seconds) for k, seconds in (delta_timestamps or {}).items()}
        stored = [name for name, feature in self.layout.features.items() if not feature.is_camera]
        self.columns(stored)
        out: dict[str, Any] = {}
        masks: dict[str, Tensor] = {}
        for name, feature in self.layout.features.items():
            rows = np.array([row])
            if name in offsets:
                indices, pad = window(rows, offsets[name], *self.bounds(rows))
                rows, masks[f"{name}_is_pad"] = indices[0], torch.from_numpy(pad[0])
            single = name not in offsets or (feature.is_video and len(rows) == 1)
            image = feature.is_camera
            values = self._image(name, rows, return_uint8) if image else _tensor(self._columns[name][rows])
            out[name] = values[0] if single else values
        number = int(self.column("task_index")[row])
        return {**out, **masks, "task": self.task(number, f"row {row}: ")}

    def _row(self, index: int) -> int:
        """Row number of a selected frame."""
        start = self.episode_from[self.episodes]
        end = np.cumsum(self.episode_to[self.episodes] - start)
        e = int(np.searchsorted(end, index, side="right"))
        return int(start[e] + index - (end[e - 1] if e else 0))

    def _image(self, name: str, rows: Array, return_uint8: bool) -> Tensor:
        import torch

        frames = torch.from_numpy(self.video(name).frames(rows)).permute(0, 3, 1, 2).contiguous()
        if frames.dtype != torch.uint8 or (return_uint8 and self.layout.features[name].is_video):
            return frames
        return frames.float().div_(255)

    def task(self, number: int, where: str = "") -> str:
        """The instruction of a task_index; raises `DataError` with `where` before it if there is none."""
        if number not in self.tasks:
            known = ", ".join(map(str, list(self.tasks)[:8])) + (", ..." if len(self.tasks) > 8 else "")
            raise DataError(f"{self.root}: {where}task_index {number} has no task; there are {known or 'none'}")
        return self.tasks[number]

    def bounds(self, rows: Array) -> tuple[Array, Array]:
        """First and exclusive last row, (n,) each, of the episodes that the rows (n,) belong to."""
        episode = self.table.of_rows(rows)
        return self.episode_from[episode], self.episode_to[episode]

    def offsets(self, name: str, seconds: Sequence[float]) -> Array:
        """Seconds as whole frames (n,); raises `DataError` for one further than the tolerance from a frame."""
        self.layout.feature(name)
        frames = [round(s * self.fps) for s in seconds]
        for s, frame in zip(seconds, frames, strict=True):
            if abs(s * self.fps - frame) / self.fps > self.tolerance:
                raise DataError(f"delta_timestamps[{name!r}]: {s} s is no multiple of 1 / {self.fps:g} s")
        return np.array(frames, np.int64)


def rows_of(start: Array, stop: Array) -> Array:
    """The row numbers of spans [start, stop), one after the other."""
    lengths: Array = stop - start
    before = np.cumsum(lengths) - lengths
    rows: Array = np.arange(lengths.sum()) + np.repeat(start - before, lengths)
    return rows


def window(rows: Array, offsets: Array, start: Array, stop: Array) -> tuple[Array, Array]:
    """Rows (B, n) at `offsets` (n,) from `rows` (B,), held inside [start, stop) (B,), and where they had to be held."""
    wanted = rows[:, None] + offsets[None]
    held = np.minimum(np.maximum(wanted, start[:, None]), stop[:, None] - 1)
    return held, held != wanted


def _kept(feature: Feature, single: bool) -> Any:
    """The dtype a column has in memory."""
    if not feature.is_number:
        return object
    return np.float32 if single else np.dtype(feature.dtype)


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory for a column: numpy asks for huge pages, for which a nearly full machine is tidied up for seconds."""
    size = 0 if dtype is object else int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not size or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(shape, dtype)
    own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    found: Array = np.frombuffer(own, dtype).reshape(shape)
    return found


def _tensor(values: Array) -> Any:
    """LeRobot's dtypes: every float is float32, every integer int64; strings stay a list."""
    if values.dtype == object:
        return values.tolist()
    import torch

    kind = {"f": np.float32, "i": np.int64, "u": np.int64}.get(values.dtype.kind, values.dtype)
    return torch.from_numpy(values.astype(kind))
