"""Videos looked at without decoding: files that are absent or truncated, times without a frame, other rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from nextmove.data.cameras import VideoCamera
from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.data.video import ROUNDED, VideoFile


def faults(dataset: Dataset, camera: VideoCamera, file: int, timed: bool = True) -> Iterator[tuple[int | None, str]]:
    """What is wrong with a video file: None and why it cannot be opened, or episodes at whose times it has no frames.

    timed: whether the data set's timestamps can be read.
    """
    path = camera.clips.files[file]
    try:
        video = VideoFile(path, camera.feature, partial(camera.earliest, file) if timed else lambda: 0.0)
    except DataError as problem:
        yield None, str(problem)
        return
    for episode in np.flatnonzero(camera.clips.file_of == file).tolist() if timed else ():
        rows = np.arange(dataset.episode_from[episode], dataset.episode_to[episode])
        try:
            video.numbers(camera.seconds(rows), dataset.tolerance + ROUNDED)
        except DataError as problem:
            yield episode, f"{problem}{camera.rates(video)}"
    video.close()


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
                found: list[tuple[int | None, str]] = [(None, f"{path}: video file of {name!r} is missing")]
            else:
                found = list(faults(dataset, camera, file)) if opened else []
            for episode, why in found:
                out |= {number: why for number in here if episode in (None, number) and number not in out}
    return out
