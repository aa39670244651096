"""Frames to small videos for pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
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
    # Means over areas are the fastest that shrinks without aliasing.
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(array).resize((width, height), how))


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
