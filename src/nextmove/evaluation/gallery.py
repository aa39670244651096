"""Grids of samples, and animations of the steps that made them.

Shapes: N images, C channels (1 grey or 3 colours), F frames.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SIDE = 640
"""About how wide a grid gets, pixels; small images are magnified by a whole number."""


def grid(images: Array, *, columns: int = 0, side: int = SIDE) -> Array:
    """Images (N, C, height, width) in [0, 1] beside each other as one image uint8 (height', width', 3)."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images: expected (N, 1 or 3, height, width), found {images.shape}")
    count, _, height, width = images.shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    scale = max(1, side // (columns * (width + 1)))
    pixels = np.round(255 * np.clip(np.nan_to_num(images), 0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(scale, 1).repeat(scale, 2)
    gap = max(1, scale // 2)
    tall, wide = height * scale, width * scale
    canvas = np.full((rows * (tall + gap) - gap, columns * (wide + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * (tall + gap), i % columns * (wide + gap)
        canvas[top : top + tall, left : left + wide] = image
    return canvas


def png(image: Array) -> bytes:
    """An image uint8 (height, width, 3) as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def kind(target: Path) -> str:
    """The format that an image's file name asks for, in lower case; raises ValueError for an unknown one."""
    suffix = target.suffix.lower()
    if suffix not in (".png", ".gif", ".webp", ".mp4"):
        raise ValueError(f"out: expected a name ending in .png, .gif, .webp or .mp4, found {target.name!r}")
    return suffix


def moving(frames: Sequence[Array], suffix: str, *, seconds: float = 4.0) -> bytes:
    """Images uint8 (F) of equal size as a GIF, WebP or MP4 file that stays on its last one."""
    if suffix == ".mp4":
        from nextmove.evaluation.video import mp4

        fps = max(1.0, len(frames) / seconds)
        return mp4([*frames, *[frames[-1]] * round(fps)], fps=fps, size=max(frames[0].shape[:2]) // 2 * 2)
    from PIL import Image

    kinds = {".gif": "GIF", ".webp": "WEBP"}
    first, *others = (Image.fromarray(frame) for frame in frames)
    pause = max(20, int(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    first.save(
        buffer, kinds[suffix], save_all=True, append_images=others, loop=0,
        duration=[pause] * len(others) + [1500] if others else pause,
    )  # fmt: skip
    return buffer.getvalue()
