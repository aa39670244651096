"""Every image of a data set decoded, to find those that are damaged: a file of a camera at a time.

Shapes: F frames of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nextmove.data.cameras import ImageCamera, VideoCamera
from nextmove.data.dataset import Dataset, open_dataset
from nextmove.data.errors import DataError
from nextmove.data.suspects import Finding
from nextmove.data.tables import Array
from nextmove.data.video import VideoFile


@dataclass(frozen=True)
class Part:
    """Some episodes of a camera: those in one video file, or one episode of images in tables."""

    camera: str
    episodes: tuple[int, ...]
    frames: int


def parts(dataset: Dataset) -> list[Part]:
    """What is to be decoded, whose errors are independent of one another."""
    found = []
    for name, feature in dataset.layout.features.items():
        if feature.is_camera:
            camera = dataset.video(name)
            file = camera.clips.file_of if isinstance(camera, VideoCamera) else np.arange(dataset.num_episodes)
            for number in np.unique(file):
                episodes = np.flatnonzero(file == number)
                frames = int((dataset.episode_to - dataset.episode_from)[episodes].sum())
                found.append(Part(name, tuple(episodes.tolist()), frames))
    return found


class Decoding:
    """Decodes parts of the data set in a folder; made anew in every process."""

    def __init__(self, root: Path | str) -> None:
        self.dataset = open_dataset(root)

    def __call__(self, part: Part) -> tuple[Part, list[Finding]]:
        """The part, and what is wrong with it; a file that cannot even be opened is left to the doctor."""
        camera = self.dataset.video(part.camera)
        assert isinstance(camera, VideoCamera | ImageCamera)
        look = self._video if isinstance(camera, VideoCamera) else self._images
        return part, list(look(camera, part))  # type: ignore[arg-type]

    def _video(self, camera: VideoCamera, part: Part) -> Iterator[Finding]:
        file = int(camera.clips.file_of[part.episodes[0]])
        path = camera.clips.files[file]
        try:
            video = VideoFile(path, camera.feature, partial(camera.earliest, file))
        except DataError:
            return
        broken = video.broken()
        if not broken.all():
            shape = video.frame(int(np.argmin(broken))).shape
            if shape != camera.feature.shape:
                text = f"frames are {list(shape)}, info.json says {list(camera.feature.shape)}"
                yield Finding("warning", "decode", text, part.camera, file=path)
        for episode in part.episodes:
            try:
                numbers = video.numbers(camera.seconds(self._rows(episode)), self.dataset.tolerance + 1e-4)
            except DataError:
                continue
            yield from _said(broken[numbers], part.camera, episode, path)
        video.close()

    def _images(self, camera: ImageCamera, part: Part) -> Iterator[Finding]:
        for episode in part.episodes:
            broken, why = [], ""
            for row in self._rows(episode).tolist():
                try:
                    broken.append(camera.frames(np.array([row])).shape[1:] != camera.feature.shape)
                except DataError as problem:
                    broken.append(True)
                    why = why or f": {problem}"
            yield from _said(np.array(broken, bool), part.camera, episode, None, why)

    def _rows(self, episode: int) -> Array:
        return np.arange(self.dataset.episode_from[episode], self.dataset.episode_to[episode])


def _said(broken: Array, camera: str, episode: int, file: Path | None, why: str = "") -> Iterator[Finding]:
    if broken.any():
        text = (
            f"{int(broken.sum())} of {len(broken)} frames are damaged, the first at frame {int(broken.argmax())}{why}"
        )
        yield Finding("error", "decode", text, camera, episode, int(broken.argmax()), file)
