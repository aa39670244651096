"""Palette: k-means against scipy's and by hand, nearest colours, round trips, errors."""

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from nextmove.codecs.palette import Palette, lloyd, plus_plus
from nextmove.contracts import Codec, seeded

BASE = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.2, 0.9, 0.3], [0.3, 0.1, 0.9]])


def images(n=6, size=8, spread=0.02, seed=0):
    """Pixels scattered around four colours, and which of them each has."""
    rng = seeded(seed)
    which = torch.randint(4, (n, size, size), generator=rng)
    colours = BASE[which] + spread * torch.randn(n, size, size, 3, generator=rng)
    return colours.clamp(0, 1).permute(0, 3, 1, 2), which


def palette(colours=4, size=8, channels=3):
    return Palette(height=size, width=size, channels=channels, colours=colours)


def test_it_finds_the_colours_that_are_there():
    raw, which = images()
    codec = palette()
    error = codec.fit(raw)
    order = (codec.colours[:, None] - BASE).square().sum(-1).argmin(0)
    means = torch.stack([raw.permute(0, 2, 3, 1)[which == k].mean(0) for k in range(4)])
    torch.testing.assert_close(codec.colours[order], means, atol=1e-5, rtol=0.0)
    ids = codec.encode(raw)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, order[which].flatten(1))
    assert error == pytest.approx(float((codec.decode(ids) - raw).square().sum(1).mean()), rel=1e-4)
    assert isinstance(codec, Codec)
    assert (codec.classes, codec.length) == (4, 64)


def test_every_pixel_gets_its_nearest_colour():
    codec, raw = palette(colours=50, size=16), torch.rand(5, 3, 16, 16, generator=seeded(1))
    codec.fit(raw)
    pixels = raw.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    distance = ((pixels[:, None] - codec.colours.double().numpy()) ** 2).sum(-1)
    assert np.array_equal(codec.encode(raw).flatten().numpy(), distance.argmin(1))
    ids = torch.randint(50, (3, 256), generator=seeded(2))
    assert torch.equal(codec.encode(codec.decode(ids)), ids)
    assert codec.encode(raw[:0]).shape == (0, 256)
    tied = palette(colours=2, size=1, channels=1)
    tied.colours.copy_(torch.tensor([[0.25], [0.75]]))
    assert codec.decode(ids).shape == (3, 3, 16, 16)
    assert tied.encode(torch.full((1, 1, 1, 1), 0.5)).item() == 0


def test_rounds_are_those_of_scipy():
    points = np.random.default_rng(0).random((400, 3))
    start = points[:7]
    expected, _ = kmeans2(points, start, iter=200, minit="matrix")
    ours, error = lloyd(points, np.ones(400), start, 200)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert error == pytest.approx(((points[:, None] - ours) ** 2).sum(-1).min(1).mean())


def test_weights_count_like_repeats():
    rng = np.random.default_rng(0)
    points, weights = rng.random((60, 3)), rng.integers(1, 9, 60)
    once = lloyd(points, weights.astype(float), points[:5], 100)
    again = lloyd(np.repeat(points, weights, 0), np.ones(weights.sum()), points[:5], 100)
    np.testing.assert_allclose(once[0], again[0], atol=1e-12)
    assert once[1] == pytest.approx(again[1])


def test_a_centre_that_lost_all_takes_the_worst_point():
    points = np.array([[0.0], [0.1], [1.0], [5.0]])
    centres, error = lloyd(points, np.ones(4), np.array([[0.0], [9.0], [10.0], [11.0]]), 50)
    assert sorted(centres[:, 0]) == [0.0, 0.1, 1.0, 5.0]
    assert error == 0


def test_first_colours_are_drawn_by_weight_and_squared_distance():
    points, weights = np.array([[0.0], [1.0], [3.0]]), np.array([1.0, 2.0, 0.5])
    rng, counts = np.random.default_rng(0), np.zeros((3, 3))
    for _ in range(4000):
        first, second = plus_plus(points, weights, 2, rng)[:, 0]
        counts[int(np.flatnonzero(points == first)[0]), int(np.flatnonzero(points == second)[0])] += 1
    first = weights / weights.sum()
    share = weights * (points - points.T) ** 2
    expected = first[:, None] * share / share.sum(1, keepdims=True)
    np.testing.assert_allclose(counts / 4000, expected, atol=0.02)
    assert len(np.unique(plus_plus(points, weights, 3, rng))) == 3


def test_the_seed_decides_and_more_pixels_than_asked_for_are_sampled():
    raw, _ = images()
    one, two, other = palette(30), palette(30), palette(30)
    one.fit(raw, seed=1)
    two.fit(raw, seed=1)
    other.fit(raw, seed=2)
    assert torch.equal(one.colours, two.colours)
    assert not torch.equal(one.colours, other.colours)
    few = palette(4)
    few.fit(raw, most=100)
    assert (few.colours[:, None] - BASE).square().sum(-1).min(0).values.max() < 1e-3


def test_colours_are_saved_with_the_model():
    codec, again = palette(), palette()
    codec.fit(images()[0])
    again.load_state_dict(codec.state_dict())
    assert torch.equal(again.colours, codec.colours)
    assert set(codec.state_dict()) == {"colours"}


def test_errors_name_what_was_found():
    codec, raw = palette(colours=5), BASE[torch.randint(4, (2, 8, 8))].permute(0, 3, 1, 2)
    with pytest.raises(ValueError, match="palette: its colours are absent"):
        codec.encode(raw)
    with pytest.raises(ValueError, match="image: expected at least 5 different colours, found 4"):
        codec.fit(raw)
    raw[1, 2, 3, 4] = torch.nan
    for call in (codec.fit, fitted().encode):
        with pytest.raises(ValueError, match="image: expected finite values, found NaN or infinity"):
            call(raw)
    with pytest.raises(ValueError, match="colours: expected at least 2, found 1"):
        palette(colours=1)


def fitted():
    codec = palette()
    codec.fit(images()[0])
    return codec
