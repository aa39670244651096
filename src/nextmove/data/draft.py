"""Episodes of a data set that is being written: each a folder, put down whole or not at all, kept over crashes.

`<folder>/episode-000007/` holds data.parquet (the rows as they will be stored, but for counters that depend on the
episodes before), one mp4 a camera, episode.json.
Shapes: T frames of the episode.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.columns import checked
from nextmove.data.depth import depth_levels
from nextmove.data.encode import DepthCodec, VideoCodec, encode_png, encode_video
from nextmove.data.errors import DataError
from nextmove.data.layout import Feature, read_json
from nextmove.data.schema import data_table
from nextmove.data.stats import COLOURS, PixelCounts, Stats, describe, parse_stats, sampled_images, to_json
from nextmove.data.tables import Array
from nextmove.host.files import remove_leftovers, replacing, write_bytes, write_json

FORMAT = 2
"""Of a staged episode; in format 1 its rows were numbered within the data set."""
SETTINGS = "settings.json"
_NUMBER = re.compile(r"episode-(\d+)(\.failed)?")


@dataclass(frozen=True)
class DraftedEpisode:
    """A staged episode: its folder, length, distinct tasks, statistics and the pixel counts of its cameras."""

    folder: Path
    length: int
    tasks: tuple[str, ...]
    stats: Stats
    pixels: Mapping[str, PixelCounts]

    @classmethod
    def read(cls, folder: Path) -> DraftedEpisode:
        """The episode of a folder."""
        raw = read_json(folder / "episode.json")
        pixels = {c: PixelCounts(np.array(p["counts"]), p["images"]) for c, p in raw["pixels"].items()}
        stats = parse_stats(raw["stats"], str(folder))
        return cls(folder, int(raw["length"]), tuple(raw["tasks"]), stats, pixels)

    @property
    def data(self) -> Path:
        """The parquet file of its rows."""
        return self.folder / "data.parquet"

    def video(self, camera: str) -> Path:
        """The mp4 of a camera."""
        return self.folder / f"{camera}.mp4"


@dataclass(frozen=True)
class Draft:
    """A folder of staged episodes by number, which any process may add to in any order; failed ones are remembered."""

    folder: Path
    features: Mapping[str, Feature]
    fps: float
    codec: VideoCodec

    def open(self, settings: Mapping[str, Any]) -> None:
        """Creates the folder for a data set with these settings, or checks that it was begun with the same.

        Raises DataError naming the first setting that differs, or a folder of something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path, settings = self.folder / SETTINGS, {"format": FORMAT, **settings}
        remove_leftovers(self.folder)
        if path.exists():
            differing = difference(read_json(path), settings)
            if differing:
                raise DataError(
                    f"{self.folder}: begun with another {differing}; go on as it was begun, name another folder, or "
                    "delete this one to begin anew"
                )
            return
        strange = sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))
        if strange:
            raise DataError(
                f"{self.folder}: expected {SETTINGS}, found {strange[0]} without it: begun with another version? "
                "delete the folder to begin anew"
            )
        write_json(path, settings)

    def add(self, number: int, columns: Mapping[str, Any], task: str | Sequence[str]) -> DraftedEpisode:
        """Stage an episode: check and describe its columns, encode its cameras, write its rows; raises `DataError`.

        columns, task: as in `DatasetWriter.add_episode`. The rows count from 0, as if there were no other episode.
        """
        ready, tasks = checked(self.features, columns, task, self.fps)
        pixels = {name: PixelCounts() for name, feature in self.features.items() if feature.is_camera}
        folder = self.folder / f"episode-{number:06d}"
        with replacing(folder) as new:
            new.mkdir()
            ready |= _cameras(new, self.features, ready, pixels, self.fps, self.codec)
            stats = {
                name: described(pixels[name], feature) if feature.is_camera else describe(ready[name], name)
                for name, feature in self.features.items()
                if feature.is_camera or feature.is_number
            }
            _write_table(new / "data.parquet", data_table(self.features, ready))
            counts = {
                c: {"images": p.images, "counts": p.counts.tolist()} for c, p in pixels.items() if p.counts is not None
            }
            record = {"length": len(ready["index"]), "tasks": tasks, "stats": to_json(stats), "pixels": counts}
            write_json(new / "episode.json", record)
        return DraftedEpisode.read(folder)

    def fail(self, number: int) -> None:
        """Remembers that episode `number` did not succeed."""
        write_bytes(self.folder / f"episode-{number:06d}.failed", b"")

    def done(self) -> dict[int, bool]:
        """Whether each finished episode succeeded, by number."""
        found = (_NUMBER.fullmatch(path.name) for path in self.folder.iterdir())
        return {int(match[1]): not match[2] for match in found if match}

    def episodes(self, numbers: Sequence[int] | None = None) -> list[DraftedEpisode]:
        """The staged episodes of these numbers, in their order; all of them if not given."""
        if numbers is None:
            numbers = sorted(number for number, success in self.done().items() if success)
        return [DraftedEpisode.read(self.folder / f"episode-{number:06d}") for number in numbers]

    def kept(self) -> str:
        """What is there, as text."""
        return f"{sum(self.done().values())} finished episodes are kept in {self.folder}"

    def discard(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.folder)


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first setting in which two data sets differ, with both values, or nothing.

    Of two calls of one function, which play an episode, only what they are given differently is shown.
    """
    other = json.loads(json.dumps(other))  # as a file gives it back: lists for tuples
    for key in sorted({*one, *other}):
        before, now = one.get(key), other.get(key)
        if before == now:
            continue
        same = str(before).partition("(")[0] == str(now).partition("(")[0]
        apart = [_given(before) - _given(now), _given(now) - _given(before)]
        if key == "episode" and same and all(apart):
            return "episode: " + ", now ".join(", ".join(sorted(found)) for found in apart)
        return f"{key}: {before!r}, now {now!r}"
    return ""


def _given(call: Any) -> set[str]:
    """Of a call as `record.describe` writes it what it is given: that without a name, and each `name=value`."""
    first, *named = re.split(r", (?=[a-z_]+=)", str(call).removesuffix(")"))
    return {first.partition("(")[2], *named} if first.count("(") == 1 else set()


def _cameras(
    folder: Path,
    features: Mapping[str, Feature],
    columns: Mapping[str, Any],
    pixels: Mapping[str, PixelCounts],
    fps: float,
    codec: VideoCodec,
) -> dict[str, list[bytes]]:
    """Encode all cameras side by side; those stored in parquet come back as lists of PNG."""

    def one(name: str) -> list[bytes]:
        frames = _counted(columns[name], len(columns["index"]), pixels[name])
        if features[name].is_video:
            coded = DepthCodec(features[name].info) if features[name].is_depth else codec
            encode_video(folder / f"{name}.mp4", frames, fps, coded)
            return []
        return [encode_png(frame) for frame in frames]

    if not pixels:
        return {}
    with ThreadPoolExecutor(len(pixels)) as pool:
        encoded = dict(zip(pixels, pool.map(one, pixels), strict=True))
    return {name: blobs for name, blobs in encoded.items() if not features[name].is_video}


def described(pixels: PixelCounts, camera: Feature) -> dict[str, Array]:
    """The statistics of a camera's pixels, of depths in the unit that they are recorded in."""
    return pixels.describe(depth_levels(camera.info) if camera.is_depth else COLOURS)


def _counted(frames: Callable[[], Iterator[Array]], length: int, pixels: PixelCounts) -> Iterator[Array]:
    chosen = sampled_images(length)
    for number, frame in enumerate(frames()):
        if number in chosen:
            pixels.add(frame)
        yield frame


def _write_table(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=max(1, table.num_rows))
