"""Pixels in raster order and in [-1, 1]."""

import math

import pytest
import torch

from nextmove.codecs.pixels import Continuous, Pixels
from nextmove.contracts import Codec, seeded, uniform


def test_ids_are_levels_in_raster_order_channels_innermost():
    image = torch.arange(12).view(1, 2, 2, 3) / 11  # (B, C, height, width)
    codec = Pixels(height=2, width=3, channels=2, levels=12)
    assert codec.encode(image).tolist() == [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    assert (codec.classes, codec.length) == (12, 12)
    assert isinstance(codec, Codec)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_round_trips_are_exact(levels):
    ids = torch.randint(levels, (3, 4 * 5 * 3), generator=seeded(0))
    pixels = Pixels(height=4, width=5, channels=3, levels=levels)
    image = pixels.decode(ids)
    assert image.shape == (3, 3, 4, 5)
    assert torch.equal(image, ids.view(3, 4, 5, 3).permute(0, 3, 1, 2) / (levels - 1))
    assert torch.equal(pixels.encode(image), ids)
    continuous = Continuous(levels=levels)
    for rng in (None, seeded(1)):
        x = continuous.encode(image, rng)
        assert x.abs().max() < 1
        torch.testing.assert_close(continuous.decode(x), image)


def test_the_nearest_level_is_taken():
    codec = Pixels(height=1, width=4, channels=1, levels=3)
    assert codec.encode(torch.tensor([[[[0.24, 0.26, 0.74, 0.76]]]])).tolist() == [[0, 1, 1, 2]]
    halves = torch.tensor([[[[0.25, 0.75, 0.0, 1.0]]]])
    assert codec.encode(halves).tolist() == [[1, 2, 0, 2]]  # up, so that 8 of 16 is white in black and white


def test_levels_are_spread_evenly_over_their_cells():
    codec, raw = Continuous(levels=4), torch.full((1, 1, 100, 100), 1 / 3)
    assert codec.cell == 0.5
    torch.testing.assert_close(codec.encode(raw), torch.full_like(raw, -0.25))
    x = codec.encode(raw, seeded(0))
    torch.testing.assert_close(x, (1 + uniform(raw.shape, seeded(0))) * 0.5 - 1)
    assert -0.5 <= x.min() < -0.49 < -0.01 < x.max() < 0
    far = torch.tensor([[[[-3.0, 3.0]]]])
    assert codec.decode(far).tolist() == [[[[0.0, 1.0]]]]


def test_values_outside_are_named():
    for codec in (Pixels(height=1, width=1, channels=1, levels=2), Continuous(levels=2)):
        with pytest.raises(ValueError, match=r"image: expected values in \[0, 1\], found 1.5 to 1.5"):
            codec.encode(torch.full((1, 1, 1, 1), 1.5))
        with pytest.raises(ValueError, match="found nan to nan"):
            codec.encode(torch.full((1, 1, 1, 1), math.nan))
