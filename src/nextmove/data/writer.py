"""Writing LeRobot v3.0 data sets, whole episodes at a time, so that a crash loses at most the episode being added.

Letters: T frames of an episode, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.config import nearest
from nextmove.data.assemble import Base, assemble, publish
from nextmove.data.dataset import open_dataset
from nextmove.data.digits import refuse_lost
from nextmove.data.draft import Draft
from nextmove.data.encode import VideoCodec
from nextmove.data.errors import DataError
from nextmove.data.layout import DATA_PATH, DEFAULTS, STAGING, VIDEO_PATH, Feature, parse_feature, read_json
from nextmove.data.stats import first_bad
from nextmove.data.tables import Array


class DatasetWriter:
    """Adds episodes to the data set in the folder `root`; nothing can be read before `finalize()`.

    features: LeRobot entries {"dtype", "shape", "names"} without timestamp, indices and task_index, which are made
    here; cameras are dtype "video" (mp4) or "image" (PNG in parquet), shape (H, W, 3). fps: frames a second.
    resume: go on where a writer stopped, or add to a finished set, whose features and fps must be the same.
    *_files_size_in_mb, chunks_size: when the next file and the next folder begin, as in info.json.
    """

    def __init__(
        self,
        root: str | Path,
        features: Mapping[str, Mapping[str, Any]],
        fps: float,
        robot_type: str | None = None,
        *,
        resume: bool = False,
        video: VideoCodec = VideoCodec(),  # noqa: B008 (frozen)
        chunks_size: int = 1000,
        data_files_size_in_mb: float = 100,
        video_files_size_in_mb: float = 200,
    ) -> None:
        self.root, self.fps, self.codec = Path(root), fps, video
        entries = _entries(features, fps, video)
        self.features = {name: parse_feature(name, entry, "features") for name, entry in entries.items()}
        self._info: dict[str, Any] = {
            "codebase_version": "v3.0",
            "fps": int(fps) if fps == int(fps) else fps,
            "features": entries,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": chunks_size,
            "data_files_size_in_mb": data_files_size_in_mb,
            "video_files_size_in_mb": video_files_size_in_mb,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if any(f.is_video for f in self.features.values()) else None,
            "robot_type": robot_type,
            "splits": {},
        }
        if not resume and ((self.root / "meta" / "info.json").exists() or (self.root / STAGING).exists()):
            raise DataError(f"{self.root}: holds a data set or an unfinished one; resume=True adds to it")
        publish(self.root)
        self._base = self._read_base()
        settings = {"fps": self._info["fps"], "features": entries, "frames_before": self._base.frames}
        self._draft: Draft | None = Draft(self.root / STAGING, settings)

    def _read_base(self) -> Base:
        path = self.root / "meta" / "info.json"
        if not path.exists():
            return Base()
        found = read_json(path)
        if not str(found.get("codebase_version")).startswith("v3."):
            raise DataError(
                f"{path}: codebase_version: only v3.x can be added to, found {found.get('codebase_version')!r}"
            )
        _check_same(found, self._info, str(path))
        self._info |= {**found, "data_path": DATA_PATH, "video_path": self._info["video_path"]}
        self.features = {name: self.features[name] for name in found["features"]}  # Columns keep their order.
        (self.root / STAGING).mkdir(exist_ok=True)  # Marks the set as being written to.
        dataset = open_dataset(self.root, empty=True)
        stats = dataset.stats if (self.root / "meta" / "stats.json").exists() else None
        return Base(dataset.num_episodes, dataset.num_frames, dataset.tasks, stats)

    @property
    def num_episodes(self) -> int:
        """Episodes of the set so far, those not finalized included."""
        return self._base.episodes + len(self._open().episodes)

    @property
    def num_frames(self) -> int:
        """Frames of the set so far, those not finalized included."""
        return self._base.frames + sum(e.length for e in self._open().episodes)

    def _open(self) -> Draft:
        if self._draft is None:
            raise DataError(f"{self.root}: finalize() has ended this writer; resume=True opens another")
        return self._draft

    def add_episode(self, columns: Mapping[str, Any], task: str | Sequence[str]) -> None:
        """Store an episode; it is on the disk, and safe from a crash, when this returns.

        columns: every feature once, (T, *shape) arrays of its dtype ((T,) for shape (1,)); cameras (T, H, W, 3) uint8,
        or any iterable of T such frames; strings a sequence. task: one instruction, or one a frame.
        Raises `DataError` naming feature and frame: missing or unknown, wrong shape or dtype, not finite.
        """
        draft = self._open()
        given = [name for name in self.features if name not in DEFAULTS]
        for name in columns:
            if name not in given:
                raise DataError(f"unknown feature {name!r}{nearest(name, given)}; the set has {given}")
        for name in given:
            if name not in columns:
                raise DataError(f"feature {name!r} is missing from the episode{nearest(name, columns)}")
        length = _length({name: columns[name] for name in given}, task)
        ready = {name: _ready(self.features[name], columns[name], length) for name in given}
        tasks = [task] * length if isinstance(task, str) else list(task)
        if len(tasks) != length or not all(isinstance(t, str) for t in tasks):
            raise DataError(f"task: expected one string or {length}, found {len(tasks)}")
        ready |= self._counters(length, tasks)
        draft.add(self.features, ready, list(dict.fromkeys(tasks)), self.fps, self.codec)

    def _counters(self, length: int, tasks: list[str]) -> dict[str, Array]:
        """The features that every set has, for the next `length` frames."""
        number = self._base.numbered([*(t for e in self._open().episodes for t in e.tasks), *tasks])
        frame = np.arange(length)
        return {
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, self.num_episodes),
            "index": frame + self.num_frames,
            "task_index": np.array([number[t] for t in tasks]),
        }

    def finalize(self) -> Path:
        """Turn the added episodes into a data set that can be read, all at once; returns its folder.

        Raises `DataError` where there is no episode.
        """
        draft = self._open()
        if not draft.episodes and not self._base.episodes:
            raise DataError(f"{self.root}: there is no episode to finalize")
        if draft.episodes:
            assemble(self.root, self._info, self.features, self._base, draft.episodes)
        else:
            draft.discard()
        self._draft = None
        return self.root


def _entries(features: Mapping[str, Mapping[str, Any]], fps: float, video: VideoCodec) -> dict[str, dict[str, Any]]:
    """The entries of info.json; raises `DataError` for what no reader could use."""
    out: dict[str, dict[str, Any]] = {}
    for name, given in features.items():
        feature = parse_feature(name, given, "features")
        if name in DEFAULTS or "/" in name or not name:
            raise DataError(f"features: {name!r} is not allowed: made by the writer, empty or with a slash")
        if feature.is_depth or feature.dtype == "language":
            raise DataError(f"features: {name!r}: depth maps and language columns can be read but not written")
        out[name] = {"dtype": feature.dtype, "shape": list(given["shape"]), "names": given.get("names")}
        if feature.is_camera:
            height, width, channels = feature.shape
            if channels != 3:
                raise DataError(f"features: camera {name!r}: expected 3 channels, found {channels}")
            out[name] |= {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
            out[name] |= {"info": video.info(height, width, fps)} if feature.is_video else {}
        elif not 1 <= len(feature.shape) <= 5 or min(feature.shape) < 1:
            raise DataError(f"features: {name!r}: expected 1 to 5 positive sizes, found shape {list(feature.shape)}")
    return out | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in DEFAULTS.items()}


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    if found.get("fps") != wanted["fps"]:
        raise DataError(f"{where}: fps: the data set has {found.get('fps')}, the writer {wanted['fps']}")
    for name in {**found.get("features", {}), **wanted["features"]}:
        there, here = found.get("features", {}).get(name), wanted["features"].get(name)
        if not there or not here or [there[k] for k in ("dtype", "shape")] != [here[k] for k in ("dtype", "shape")]:
            raise DataError(f"{where}: feature {name!r}: the data set has {there}, the writer {here}")


def _length(columns: Mapping[str, Any], task: str | Sequence[str]) -> int:
    sizes = {name: len(values) for name, values in columns.items() if hasattr(values, "__len__")}
    if not sizes and not isinstance(task, str):
        sizes["task"] = len(task)
    if not sizes:
        raise DataError("the number of frames is unknown: give one column with a length, or one task a frame")
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            raise DataError(f"feature {name!r} has {size} frames, {first!r} has {sizes[first]}")
    if not sizes[first]:
        raise DataError("the episode has no frame")
    return sizes[first]


def _ready(feature: Feature, values: Any, length: int) -> Any:
    """A checked column: an array, a list of strings, or a function giving the frames of a camera."""
    if feature.is_camera:
        return _frames(feature, values, length)
    if feature.dtype == "string":
        texts = list(values)
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"feature {feature.name!r}: frame {wrong}: expected a string, found {texts[wrong]!r}")
        return texts
    array = np.asarray(values)
    if array.shape not in {(length, *feature.item_shape), (length, *feature.shape)}:
        expected = (length, *feature.item_shape)
        raise DataError(f"feature {feature.name!r}: expected shape {expected}, found {array.shape}")
    if not np.can_cast(array.dtype, feature.dtype, "same_kind"):
        raise DataError(f"feature {feature.name!r}: expected dtype {feature.dtype}, found {array.dtype}")
    given = array
    with np.errstate(over="ignore"):  # What does not fit becomes infinite and is refused below.
        array = array.astype(feature.dtype)
    refuse_lost(given, array, f"feature {feature.name!r}")
    if array.dtype.kind in "iu" and not np.array_equal(given, array):
        raise DataError(f"feature {feature.name!r}: values do not fit {feature.dtype}")
    array = array.reshape(length, *feature.item_shape)
    bad = first_bad(array)
    if bad is not None:
        raise DataError(f"feature {feature.name!r}: frame {bad} is not finite: {array[bad]}")
    return array


def _frames(feature: Feature, values: Iterable[Array], length: int) -> Callable[[], Iterator[Array]]:
    def frames() -> Iterator[Array]:
        number = -1
        for number, value in enumerate(values):
            frame = np.asarray(value)
            if frame.shape != feature.shape or frame.dtype != np.uint8:
                raise DataError(
                    f"camera {feature.name!r}: frame {number}: expected {feature.shape} uint8, "
                    f"found {frame.shape} {frame.dtype}"
                )
            yield np.ascontiguousarray(frame)
        if number + 1 != length:
            raise DataError(f"camera {feature.name!r}: expected {length} frames, found {number + 1}")

    return frames
