"""What a camera saw along an episode, as one small image of frames side by side that a page steps through.

Shapes: N frames, T steps of the episode.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES = 60
"""Frames of an episode that a page holds at most."""
SIDE = 192
"""Pixels of their longer side."""
COLUMNS = 8
QUALITY = 60
"""Of WebP, 0 to 100."""


@dataclass(frozen=True)
class Film:
    """One camera along one episode."""

    episode: int
    camera: str
    steps: tuple[int, ...]
    """The step of the episode that each frame belongs to."""
    width: int
    height: int
    """Of a frame."""
    sheet: bytes
    """A WebP image of all frames, `COLUMNS` a row."""

    @property
    def data(self) -> str:
        """The sheet as text for a page."""
        return base64.b64encode(self.sheet).decode()

    def record(self) -> dict[str, Any]:
        """Plain values."""
        found = {name: getattr(self, name) for name in ("episode", "camera", "width", "height")}
        return {**found, "steps": list(self.steps), "sheet": self.data}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Film:
        """From `record`'s values."""
        steps, sheet = tuple(map(int, record["steps"])), base64.b64decode(record["sheet"])
        return cls(**{**record, "steps": steps, "sheet": sheet})


def shown_steps(length: int) -> list[int]:
    """The steps of an episode of `length` that a film shows: evenly, first and last included."""
    return np.unique(np.linspace(0, length - 1, min(length, FRAMES)).round().astype(int)).tolist()


def film(episode: int, camera: str, steps: Sequence[int], frames: Sequence[NDArray[np.uint8]]) -> Film:
    """The film of frames uint8 (height, width, 3 or 1), all of one size, at these steps."""
    from PIL import Image

    if not frames or len(frames) != len(steps):
        raise ValueError(f"frames: expected one for each of {len(steps)} steps, found {len(frames)}")
    tall, wide = frames[0].shape[:2]
    scale = min(1.0, SIDE / max(tall, wide))
    width, height = max(1, round(wide * scale)), max(1, round(tall * scale))
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(frames)), height * rows))
    for i, frame in enumerate(frames):
        image = Image.fromarray(np.broadcast_to(frame, (tall, wide, 3))).resize((width, height), Image.Resampling.BOX)
        sheet.paste(image, (i % COLUMNS * width, i // COLUMNS * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=QUALITY, method=4)
    return Film(episode, camera, tuple(steps), width, height, buffer.getvalue())
