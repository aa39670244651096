"""Segments of frame stores made: every frame decoded once and brought to its size.

Shapes: n frames, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nextmove.contracts.pixels import resized
from nextmove.data.dataset import open_dataset
from nextmove.data.errors import DataError
from nextmove.data.frame_store import Segment, Size, Stored, footer
from nextmove.data.tables import Array
from nextmove.host.files import naming, replacing

CHUNK, BYTES = 64, 8 << 20
"""Frames in memory at once in each process, at most, and bytes of them: more would leave the processor's caches."""


@dataclass(frozen=True)
class Piece:
    """A segment of a camera that is to be made, its file, and the hash of what it is made from."""

    camera: str
    size: Size
    segment: Segment
    path: Path
    source: str


class Building:
    """Makes segments of the data set in a folder; made anew in every process."""

    def __init__(self, root: Path | str, tolerance: float) -> None:
        self.dataset = open_dataset(root, tolerance=tolerance)

    def __call__(self, piece: Piece) -> Stored | OSError:
        """Decodes a segment and writes its file; what the disk says against it is returned.

        Episodes that cannot be decoded have a reason in place of frames.
        """
        try:
            return self._made(piece)
        except OSError as problem:
            return problem

    def _made(self, piece: Piece) -> Stored:
        segment, dataset = piece.segment, self.dataset
        shape = (*piece.size, dataset.layout.feature(piece.camera).shape[2])
        one, broken = int(np.prod(shape)), dict[int, str]()
        with replacing(piece.path) as part, naming(piece.path), part.open("wb") as file:
            for episode in range(segment.first, segment.last):
                file.seek((int(dataset.episode_from[episode]) - segment.start) * one)
                try:
                    for frames in self._episode(piece, episode):
                        file.write(frames.data)
                except DataError as problem:
                    broken[episode] = str(problem)
            file.seek((segment.stop - segment.start) * one)
            file.write(footer(segment, shape, piece.source, broken))
        return Stored(piece.path, segment, piece.source, broken)

    def _episode(self, piece: Piece, episode: int) -> Iterator[Array]:
        camera, feature = self.dataset.video(piece.camera), self.dataset.layout.feature(piece.camera)
        first, last = int(self.dataset.episode_from[episode]), int(self.dataset.episode_to[episode])
        chunk = max(1, min(CHUNK, BYTES // int(np.prod(feature.shape))))
        for at in range(first, last, chunk):
            try:
                frames = camera.frames(np.arange(at, min(at + chunk, last)))
            except OSError as problem:
                raise DataError(f"{piece.camera!r}: episode {episode}: {problem}") from None
            if frames.shape[1:] != feature.shape or frames.dtype != np.uint8:
                raise DataError(
                    f"{piece.camera!r}: episode {episode}: expected frames {list(feature.shape)} of uint8, as "
                    f"info.json says, found {list(frames.shape[1:])} of {frames.dtype}; correct one of the two"
                )
            yield resized(torch.from_numpy(frames), piece.size).contiguous().numpy()
