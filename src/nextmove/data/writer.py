"""Writing LeRobot v3.0 data sets, whole episodes at a time, so that a crash loses at most the episode being added.

Shapes: T frames of an episode, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextmove.data.assemble import assemble, publish
from nextmove.data.columns import stored_entries
from nextmove.data.dataset import open_dataset
from nextmove.data.depth import depth_settings
from nextmove.data.draft import Draft, DraftedEpisode
from nextmove.data.encode import VideoCodec
from nextmove.data.errors import DataError
from nextmove.data.layout import DATA_PATH, STAGING, VIDEO_PATH, parse_feature, read_json
from nextmove.data.numbered import Base


class DatasetWriter:
    """Adds episodes to the data set in the folder `root`; nothing can be read before `finalize()`.

    features: LeRobot entries {"dtype", "shape", "names"} without timestamp, indices and task_index, which are made
    here; cameras are dtype "video" (mp4) or "image" (PNG in parquet), shape (H, W, 3). Depth cameras are videos of
    shape (H, W, 1) whose "info" holds "is_depth_map" true and "depth_unit", "m" or "mm". fps: frames a second.
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
        entries = stored_entries(features, fps, video)
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
        self._draft = Draft(self.root / STAGING, self.features, fps, video)
        self._draft.open({"fps": self._info["fps"], "features": entries, "frames_before": self._base.frames})
        self._episodes: list[DraftedEpisode] | None = self._draft.episodes()

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
        return self._base.episodes + len(self._open())

    @property
    def num_frames(self) -> int:
        """Frames of the set so far, those not finalized included."""
        return self._base.frames + sum(e.length for e in self._open())

    def _open(self) -> list[DraftedEpisode]:
        if self._episodes is None:
            raise DataError(f"{self.root}: finalize() has ended this writer; resume=True opens another")
        return self._episodes

    def add_episode(self, columns: Mapping[str, Any], task: str | Sequence[str]) -> None:
        """Store an episode; it is on the disk, and safe from a crash, when this returns.

        columns: every feature once, (T, *shape) arrays of its dtype ((T,) for shape (1,)); cameras (T, H, W, 3) uint8,
        depth cameras (T, H, W, 1) floats in metres or uint16 in millimetres, as their unit says, or any iterable of T
        such frames; strings a sequence. task: one instruction, or one a frame.
        Raises `DataError` naming feature and frame: missing or unknown, wrong shape or dtype, not finite.
        """
        episodes = self._open()
        episodes.append(self._draft.add(len(episodes), columns, task))

    def finalize(self, episodes: Sequence[DraftedEpisode] | None = None) -> Path:
        """Turn the added episodes into a data set that can be read, all at once; returns its folder.

        episodes: of a `Draft` elsewhere, which stay there, in place of those added here. Raises `DataError` where there
        is no episode.
        """
        found = self._open()
        new = found if episodes is None else list(episodes)
        if not new and not self._base.episodes:
            raise DataError(f"{self.root}: there is no episode to finalize")
        if new:
            assemble(self.root, self._info, self.features, self._base, new)
        else:
            self._draft.discard()
        self._episodes = None
        return self.root


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    if found.get("fps") != wanted["fps"]:
        raise DataError(f"{where}: fps: the data set has {found.get('fps')}, the writer {wanted['fps']}")
    for name in {**found.get("features", {}), **wanted["features"]}:
        there, here = found.get("features", {}).get(name), wanted["features"].get(name)
        if not there or not here or _stored(name, there) != _stored(name, here):
            raise DataError(f"{where}: feature {name!r}: the data set has {there}, the writer {here}")


def _stored(name: str, entry: Mapping[str, Any]) -> list[Any]:
    """What decides how a feature's values are stored."""
    feature = parse_feature(name, entry, "features")
    return [entry["dtype"], entry["shape"], depth_settings(feature.info) if feature.is_depth else None]
