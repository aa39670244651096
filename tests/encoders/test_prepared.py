"""Pictures as published towers read them: sizes, middles, filters, colours, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove.encoders.pictures import SCALES
from nextmove.encoders.prepared import Prepared


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def scaled(x: np.ndarray, values: str) -> torch.Tensor:
    mean, std = (torch.tensor(part) for part in SCALES[values])
    return ((torch.from_numpy(np.array(x)).float() / 255 - mean) / std).permute(2, 0, 1)


@pytest.mark.parametrize(("height", "width", "box"), [(40, 61, (4, 0)), (61, 40, (0, 4)), (33, 33, (0, 0))])
def test_clip_keeps_the_middle_of_the_shorter_side(height: int, width: int, box: tuple[int, int]) -> None:
    x = picture(height, width)
    long = int(16 * max(height, width) / min(height, width))
    size = (long, 16) if width > height else (16, long)
    whole = np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC))
    left, top = box
    expected = scaled(whole[top : top + 16, left : left + 16], "clip")
    torch.testing.assert_close(Prepared.clip(16)([x])[0], expected)
    torch.testing.assert_close(Prepared.clip(16)([torch.from_numpy(x)])[0], expected)


def test_others_are_stretched_or_cut_otherwise() -> None:
    x = picture(30, 50)
    image = Image.fromarray(x)
    stretched = scaled(np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC)), "symmetric")
    torch.testing.assert_close(Prepared.stretched(24)([x])[0], stretched)
    plain = scaled(np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR)), "symmetric")
    torch.testing.assert_close(Prepared.stretched(24, filter="bilinear")([x])[0], plain)
    assert Prepared.dinov2() == Prepared(size=256, mean=SCALES["imagenet"][0], std=SCALES["imagenet"][1])
    assert Prepared.dinov2(28)([x, picture(90, 31)]).shape == (2, 3, 28, 28)
    # A picture that has its size already is not touched.
    exact = picture(24, 24)
    torch.testing.assert_close(Prepared.stretched(24)([exact])[0], scaled(exact, "symmetric"))


def test_what_is_missing_is_black_and_squares_are_filled_with_the_mean() -> None:
    x = picture(3, 6)
    cut = Prepared(size=None, crop=(6, 4), mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)([x])[0]
    expected = np.zeros((6, 4, 3), np.uint8)
    expected[1:4] = x[:, 1:5]
    assert torch.equal(cut, torch.from_numpy(expected).permute(2, 0, 1).float())
    square = Prepared(square=True, size=None, crop=None, mean=(0.5, 0.25, 0.1), std=(1.0,) * 3, scale=1.0)([x])[0]
    assert square.shape == (3, 6, 6)
    assert torch.equal(
        square[:, 1:4] + torch.tensor([0.5, 0.25, 0.1])[:, None, None], torch.from_numpy(x).permute(2, 0, 1)
    )
    torch.testing.assert_close(square[:, 0, 0] + torch.tensor([0.5, 0.25, 0.1]), torch.tensor([127.0, 63.0, 25.0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"picture 1: expected \(height, width, 3\) uint8, found \(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"picture 1: .* found \(4, 4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"picture 1: .* found \(4, 4, 3\) float32"),
        (np.zeros((0, 4, 3), np.uint8), r"picture 1: expected pixels, found an empty picture \(0, 4, 3\)"),
    ],
)
def test_what_is_no_picture_is_named(given: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prepared.clip(8)([picture(9, 9), given])


def test_pictures_of_several_sizes_need_one() -> None:
    assert Prepared.clip(8)([]).shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match="expected one size after resizing and cropping"):
        Prepared(size=8, crop=None)([picture(9, 9), picture(9, 18)])
