"""Lines of text under the frames of a film: what was said to a robot, and what it wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextmove.evaluation.episode import EpisodeResult

Frame = NDArray[np.uint8]
SHARE = 0.052
"""Height of a line as a share of the frame's width."""


def lines_at(episode: EpisodeResult, step: int) -> list[str]:
    """What was said and what was written last before a step; nothing where nothing was said."""
    written = [text for begun, text in episode.words if begun <= step]
    said = [episode.instruction] if episode.instruction else []
    return said + ([f"Plan: {written[-1] if written else ''}"] if episode.words else [])


def with_lines(frames: Sequence[Any], episode: EpisodeResult) -> list[Frame]:
    """The frames of an episode, from its first moment on, each with what was said and written by then."""
    lines = [lines_at(episode, step) for step in range(len(frames))]
    rows = max(map(len, lines), default=0)
    return [captioned(frame, said, rows) for frame, said in zip(frames, lines, strict=True)]


def captioned(frame: Any, lines: Sequence[str], rows: int = 0) -> Frame:
    """A frame (height, width, 3) uint8 with lines under it, each cut where it is wider than the frame.

    rows: lines there is room for; 0: as many as there are.
    """
    from PIL import Image, ImageDraw, ImageFont

    array, count = np.asarray(frame, np.uint8), max(rows, len(lines))
    if not count:
        return array
    width = array.shape[1]
    size = max(8, round(SHARE * width))
    band = Image.new("RGB", (width, round(count * 1.4 * size + 0.5 * size)), "white")
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(size)
    for row, line in enumerate(lines):
        draw.text((0.5 * size, (0.3 + 1.4 * row) * size), _cut(line, font, width - size), fill="black", font=font)
    return np.concatenate([array, np.asarray(band)])


def _cut(line: str, font: Any, width: float) -> str:
    while len(line) > 1 and font.getlength(line) > width:
        line = line[:-2].rstrip() + "\u2026"
    return line
