"""Frames to small pictures that move: H.264 for pages, GIF or WebP for a README."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


def _resized(frame: Any, size: int) -> Frame:
    """The frame with its longer side `size`, both sides even, as yuv420p needs."""
    from PIL import Image

    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"frame: expected uint8 (height, width, 3), found {array.dtype} {array.shape}")
    scale = size / max(array.shape[:2])
    height, width = (max(2, 2 * round(side * scale / 2)) for side in array.shape[:2])
    if (height, width) == array.shape[:2]:
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS))


def mp4(frames: Sequence[Any], *, fps: float, size: int = 256, quality: int = 26) -> bytes:
    """An mp4 that every browser plays: H.264, yuv420p.

    frames: at least one, uint8 (height, width, 3); their longer side becomes `size` pixels.
    quality: x264's crf, less is better.
    """
    import av

    if not len(frames):
        raise ValueError("frames: expected at least one, found none")
    buffer = io.BytesIO()
    height, width = _resized(frames[0], size).shape[:2]
    with av.open(buffer, "w", format="mp4") as container:
        options = {"crf": str(quality), "preset": "medium", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.pix_fmt, stream.height, stream.width = "yuv420p", height, width
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_resized(frame, size), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def animation(
    path: Path, frames: Sequence[Any], *, fps: float, size: int = 256, every: int = 1, colors: int = 64
) -> Path:
    """A looping picture, its kind by the suffix (.gif or .webp); of the frames every `every`th, shown that much longer.

    Browsers show GIF frames for at least 20 ms, in steps of 10 ms; `colors` is the size of the GIF's one palette.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix not in (".gif", ".webp"):
        raise ValueError(f"path: expected the suffix .gif or .webp, found {path.name!r}")
    kept = list(frames)[::every]
    if not kept:
        raise ValueError("frames: expected at least one, found none")
    pictures = [Image.fromarray(_resized(frame, size)) for frame in kept]
    common: dict[str, Any] = {"save_all": True, "duration": round(1000 * every / fps), "loop": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        pictures[0].save(path, append_images=pictures[1:], quality=60, method=4, **common)
        return path
    # One palette without dithering: still pixels stay equal from frame to frame, which is what makes a GIF small.
    montage = Image.fromarray(np.concatenate([np.asarray(p) for p in pictures[:: max(1, len(pictures) // 8)]]))
    palette = montage.quantize(colors)
    still = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    still[0].save(path, append_images=still[1:], optimize=True, **common)
    return path


def side_by_side(videos: Sequence[Sequence[Any]], *, gap: int = 8) -> list[Frame]:
    """Films of one height next to each other on white; those that end earlier keep their last frame."""
    if not videos or not all(len(video) for video in videos):
        raise ValueError("videos: expected at least one, each with at least one frame")
    length = max(len(video) for video in videos)
    joined = []
    for i in range(length):
        row = [np.asarray(video[min(i, len(video) - 1)]) for video in videos]
        edge = np.full((row[0].shape[0], gap, 3), 255, np.uint8)
        joined.append(np.concatenate([part for frame in row for part in (edge, frame)][1:], axis=1))
    return joined
