"""The films of a page: what the cameras saw along a demonstrated episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextmove import data as sets
from nextmove.evaluation.film import Film, film, shown_steps
from nextmove.evaluation.trajectory import LONGEST

SHOWN = 2
"""Cameras of an episode."""
AT_ONCE = 16
"""Frames that are in memory in their own size."""


def filmed(dataset: sets.Dataset, episode: int, cameras: Sequence[str]) -> list[Film]:
    """Films of an episode by these cameras, or where a policy reads none by the data set's; none without its video."""
    start = int(dataset.episode_from[episode])
    steps = shown_steps(min(int(dataset.episode_to[episode]) - start, LONGEST))
    asked = list(cameras)[:SHOWN] or [n for n, f in dataset.layout.features.items() if f.is_colour][:SHOWN]
    found = []
    for camera in asked:
        try:
            found.append(film(episode, camera, steps, _frames(dataset, camera, start, steps)))
        except (sets.DataError, FileNotFoundError) as problem:
            if cameras:
                raise
            print(f"no film of episode {episode}: {problem}")
    return found


def _frames(dataset: sets.Dataset, camera: str, start: int, steps: Sequence[int]) -> list[np.ndarray]:
    """uint8 (height, width, channels) at steps of an episode that begins in row `start`."""
    rows, video, frames = start + np.array(steps), dataset.video(camera), []
    for first in range(0, len(rows), AT_ONCE):
        frames += list(video.frames(rows[first : first + AT_ONCE]))
    return frames
