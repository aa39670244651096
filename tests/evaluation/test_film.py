"""What a camera saw, on one sheet, in an entry's file and on the page."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nextmove.evaluation.film import COLUMNS, FRAMES, Film, film, shown_steps


def test_steps_are_even_and_hold_both_ends() -> None:
    assert shown_steps(3) == [0, 1, 2]
    assert shown_steps(1) == [0]
    long = shown_steps(359)
    assert (len(long), long[0], long[-1]) == (FRAMES, 0, 358)
    assert set(np.diff(long)) <= {6, 7}


@pytest.mark.parametrize("size", [(480, 640), (40, 36)])
def test_every_frame_lies_where_the_page_looks_for_it(size: tuple[int, int]) -> None:
    steps = list(range(0, 40, 4))
    frames = [np.full((*size, 3), 20 * i, np.uint8) for i in range(len(steps))]
    made = film(3, "observation.image", steps, frames)
    assert (made.height, made.width) == ((144, 192) if size == (480, 640) else size)
    sheet = np.asarray(Image.open(io.BytesIO(made.sheet)).convert("RGB"))
    assert sheet.shape == (2 * made.height, COLUMNS * made.width, 3)
    for i in range(len(steps)):
        row, column = divmod(i, COLUMNS)
        seen = sheet[row * made.height :, column * made.width :][: made.height, : made.width]
        assert abs(float(seen.mean()) - 20 * i) < 2
    assert Film.read(made.record()) == made
    with pytest.raises(ValueError, match=r"frames: expected one for each of 10 steps, found 9"):
        film(3, "observation.image", steps, frames[1:])
