"""Videos looked at without decoding: files that are absent or truncated, times without a frame, other rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from nextmove.data.cameras import VideoCamera
from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.suspects import Finding, Level
from nextmove.data.tables import Array
from nextmove.data.video import ROUNDED, VideoFile


class Fault(NamedTuple):
    """What is wrong with one of the episodes in a video file, or with all (None)."""

    level: Level
    episode: int | None
    why: str


def faults(dataset: Dataset, camera: VideoCamera, file: int, timed: bool = True) -> Iterator[Fault]:
    """What is wrong with a video file: it cannot be opened, has no frames at the times of episodes, or another rate.

    timed: whether the data set's timestamps can be read.
    """
    path = camera.clips.files[file]
    try:
        video = VideoFile(path, camera.feature, partial(camera.earliest, file) if timed else lambda: 0.0)
    except DataError as problem:
        owners = np.flatnonzero(camera.clips.file_of == file).tolist()
        yield Fault("error", None, f"{problem}; it is to show episode{'s' * (len(owners) > 1)} {listed(owners)}")
        return
    found = False
    expected = camera.feature.shape[:2]
    if expected not in (video.size, video.size[::-1]):
        which = f"{path}: expected {expected[0]} x {expected[1]} px as info.json says, found"
        yield Fault("error", None, f"{which} {video.size[0]} x {video.size[1]}")
    for episode in np.flatnonzero(camera.clips.file_of == file).tolist() if timed else ():
        rows = np.arange(dataset.episode_from[episode], dataset.episode_to[episode])
        try:
            video.numbers(camera.seconds(rows), dataset.tolerance + ROUNDED)
        except DataError as problem:
            found = True
            yield Fault("error", episode, f"{problem}{camera.rates(video)}")
    if timed and not found and (other := camera.rates(video)):
        yield Fault("warning", None, f"{path}: has a frame at all times asked for{other}")
    video.close()


def shared(dataset: Dataset, camera: VideoCamera) -> Iterator[Fault]:
    """Files of which several episodes are shown the same frames, by the tables alone: the first pair of each."""
    full = np.flatnonzero(dataset.episode_to > dataset.episode_from)
    first = camera.seconds(dataset.episode_from[full])
    last = camera.seconds(dataset.episode_to[full] - 1)
    for file in np.unique(camera.clips.file_of[full]).tolist():
        here = np.flatnonzero(camera.clips.file_of[full] == file)
        here = here[np.argsort(first[here], kind="stable")]
        end = np.maximum.accumulate(last[here])
        twice = np.flatnonzero(first[here][1:] <= end[:-1] + ROUNDED)
        if len(twice):
            later = int(here[twice[0] + 1])
            before = int(here[int(last[here][: twice[0] + 1].argmax())])
            pair = f"episodes {full[before]} and {full[later]} show the same frames of it, {first[later]:.6g} to "
            pair += f"{min(last[before], last[later]):.6g} s"
            more = f", and {len(twice) - 1} more do" if len(twice) > 1 else ""
            path = camera.clips.files[file]
            yield Fault("warning", None, f"{path}: {pair}{more}; from_timestamp of the episodes says so")


def unreadable(dataset: Dataset, cameras: Sequence[str], episodes: Array, *, opened: bool) -> dict[int, str]:
    """Those of the episodes whose videos are missing or, if `opened`, cannot be read: by number, with the reason."""
    out: dict[int, str] = {}
    for name in cameras:
        camera = dataset.video(name)
        if not isinstance(camera, VideoCamera):
            continue
        file_of = camera.clips.file_of[episodes]
        for file in np.unique(file_of).tolist():
            here = episodes[file_of == file].tolist()
            path = camera.clips.files[file]
            if not path.is_file():
                found = [Fault("error", None, f"{path}: video file of {name!r} is missing")]
            else:
                found = list(faults(dataset, camera, file)) if opened else []
            for level, episode, why in found:
                if level == "error":
                    out |= {number: why for number in here if episode in (None, number) and number not in out}
    return out


def without_images(dataset: Dataset, findings: Sequence[Finding]) -> list[int]:
    """The episodes that have no images, or damaged ones, by the doctor's findings."""
    out: set[int] = set()
    for finding in findings:
        if finding.level != "error" or finding.check not in ("video", "decode") or finding.feature is None:
            continue
        if finding.episode is not None:
            out.add(finding.episode)
            continue
        clips = dataset.table.clips[finding.feature]
        files = [number for number, path in enumerate(clips.files) if path == finding.file]
        out.update(np.flatnonzero(np.isin(clips.file_of, files)).tolist())
    return sorted(out)


def listed(numbers: Sequence[int], most: int = 40) -> str:
    """Numbers as text, not more than so many."""
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
