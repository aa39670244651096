"""Episodes of a data set that is being written: each a folder, put down whole or not at all, kept over crashes.

`<root>/.staging/episode-000007/` holds data.parquet (the rows as they will be stored), one mp4 a camera, episode.json.
Letters: T frames of the episode.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.encode import VideoCodec, encode_png, encode_video
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature, read_json
from nextmove.data.schema import data_table
from nextmove.data.stats import PixelCounts, Stats, describe, parse_stats, sampled_images, to_json
from nextmove.data.tables import Array
from nextmove.host.files import replacing, write_json


@dataclass(frozen=True)
class Episode:
    """A staged episode: its folder, length, distinct tasks, statistics and the pixel counts of its cameras."""

    folder: Path
    length: int
    tasks: tuple[str, ...]
    stats: Stats
    pixels: Mapping[str, PixelCounts]

    @classmethod
    def read(cls, folder: Path) -> Episode:
        """The episode of a folder."""
        raw = read_json(folder / "episode.json")
        pixels = {c: PixelCounts(np.array(p["counts"]), p["images"]) for c, p in raw["pixels"].items()}
        stats = parse_stats(raw["stats"], str(folder))
        return cls(folder, int(raw["length"]), tuple(raw["tasks"]), stats, pixels)

    def video(self, camera: str) -> Path:
        """The mp4 of a camera."""
        return self.folder / f"{camera}.mp4"


class Draft:
    """The staged episodes of a data set, in order; a second writer of other settings is refused."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(dict(settings)))  # As a file gives it back: lists for tuples.
        path = folder / "settings.json"
        if not path.exists():
            write_json(path, settings, indent=4)
        found = read_json(path)
        for key, value in settings.items():
            if found.get(key) != value:
                raise DataError(f"{path}: {key}: the episodes there have {found.get(key)!r}, found {value!r}")
        self.episodes = [Episode.read(p) for p in sorted(folder.glob("episode-*"))]

    def discard(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.folder)

    def add(
        self,
        features: Mapping[str, Feature],
        columns: Mapping[str, Any],
        tasks: Sequence[str],
        fps: float,
        codec: VideoCodec,
    ) -> Episode:
        """Stage an episode: encode its cameras, describe its columns, write its rows; raises `DataError`.

        columns: checked (T, ...) arrays; cameras are functions giving an iterator of T frames.
        """
        length = len(columns["index"])
        pixels = {name: PixelCounts() for name, feature in features.items() if feature.is_camera}
        folder = self.folder / f"episode-{len(self.episodes):06d}"
        with replacing(folder) as new:
            new.mkdir()
            columns = {**columns, **_cameras(new, features, columns, length, pixels, fps, codec)}
            stats = {
                name: pixels[name].describe() if feature.is_camera else describe(columns[name], name)
                for name, feature in features.items()
                if feature.is_camera or feature.is_number
            }
            _write_table(new / "data.parquet", data_table(features, columns))
            counts = {
                c: {"images": p.images, "counts": p.counts.tolist()} for c, p in pixels.items() if p.counts is not None
            }
            record = {"length": length, "tasks": list(tasks), "stats": to_json(stats), "pixels": counts}
            write_json(new / "episode.json", record, indent=4)
        self.episodes.append(Episode.read(folder))
        return self.episodes[-1]


def _cameras(
    folder: Path,
    features: Mapping[str, Feature],
    columns: Mapping[str, Any],
    length: int,
    pixels: Mapping[str, PixelCounts],
    fps: float,
    codec: VideoCodec,
) -> dict[str, list[bytes]]:
    """Encode all cameras side by side; those stored in parquet come back as lists of PNG."""

    def one(name: str) -> list[bytes]:
        frames = _counted(columns[name], length, pixels[name])
        if features[name].is_video:
            encode_video(folder / f"{name}.mp4", frames, fps, codec)
            return []
        return [encode_png(frame) for frame in frames]

    if not pixels:
        return {}
    with ThreadPoolExecutor(len(pixels)) as pool:
        encoded = dict(zip(pixels, pool.map(one, pixels), strict=True))
    return {name: blobs for name, blobs in encoded.items() if not features[name].is_video}


def _counted(frames: Callable[[], Iterator[Array]], length: int, pixels: PixelCounts) -> Iterator[Array]:
    chosen = sampled_images(length)
    for number, frame in enumerate(frames()):
        if number in chosen:
            pixels.add(frame)
        yield frame


def _write_table(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=max(1, table.num_rows))
