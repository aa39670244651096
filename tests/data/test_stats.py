"""Statistics against numpy, and parts merged against the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmove.data import DataError
from nextmove.data.stats import QUANTILES, PixelCounts, describe, merge, sampled_images


def test_numbers_are_described_as_numpy_does() -> None:
    values = np.random.default_rng(0).normal(3, 2, (501, 4)).astype(np.float32)
    found, exact = describe(values), values.astype(np.float64)
    np.testing.assert_array_equal(found["min"], exact.min(0))
    np.testing.assert_array_equal(found["max"], exact.max(0))
    np.testing.assert_allclose(found["mean"], exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found["std"], exact.std(0), rtol=1e-14)
    for name, q in QUANTILES.items():
        np.testing.assert_array_equal(found[name], np.quantile(exact, q, axis=0))
    assert found["count"].tolist() == [501]


@pytest.mark.parametrize("value", [300.1, 1e7, -0.1, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_has_no_deviation(value: float, dtype: type) -> None:
    found = describe(np.full(97, value, dtype))
    assert found["std"].tolist() == [0.0]
    assert found["mean"].tolist() == [float(dtype(value))]


def test_a_small_deviation_far_from_zero_is_seen() -> None:
    values = 1e6 + np.tile([0.0, 0.25], 500)
    assert describe(values)["std"].tolist() == [0.125]


def test_several_axes_are_described_by_the_last() -> None:
    values = np.random.default_rng(0).normal(size=(20, 2, 3))
    found = describe(values)
    np.testing.assert_allclose(found["mean"], values.reshape(-1, 3).mean(0), rtol=1e-12)
    assert found["count"].tolist() == [20]
    assert describe(np.array([True, False, True, True]))["mean"].tolist() == [0.75]


def test_what_is_not_finite_is_named() -> None:
    with pytest.raises(DataError, match="'action': frame 2 holds a number that is not finite"):
        describe(np.array([[0.0], [1.0], [np.inf]]), "action")


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), min_size=1, max_size=5),
    st.floats(-1e4, 1e4),
)
@settings(max_examples=100, deadline=None)
def test_merged_moments_are_those_of_the_whole(parts: list[list[float]], shift: float) -> None:
    arrays = [np.array(p) + shift for p in parts]
    merged = merge([{"x": describe(a)} for a in arrays])["x"]
    whole = describe(np.concatenate(arrays))
    for key in ("min", "max", "count"):
        np.testing.assert_array_equal(merged[key], whole[key])
    np.testing.assert_allclose(merged["mean"], whole["mean"], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(merged["std"], whole["std"], rtol=1e-9, atol=1e-8)
    for q in QUANTILES:
        assert whole["min"] <= merged[q] <= whole["max"]


def test_merged_quantiles_come_from_the_mixture_not_from_a_mean() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.uniform(0, 1, 4000), rng.uniform(10, 11, 4000)
    merged = merge([{"x": describe(low)}, {"x": describe(high)}])["x"]
    exact = describe(np.concatenate([low, high]))
    assert abs(merged["q01"] - exact["q01"]) < 0.02
    assert abs(merged["q90"] - exact["q90"]) < 0.02
    mean_of_quantiles = (describe(low)["q90"] + describe(high)["q90"]) / 2
    assert abs(mean_of_quantiles - exact["q90"]) > 4


def test_parts_without_quantiles_merge_without() -> None:
    part = {k: v for k, v in describe(np.arange(4.0)).items() if not k.startswith("q")}
    assert set(merge([{"x": part}, {"x": part}])["x"]) == {"min", "max", "mean", "std", "count"}


def test_pixels_are_described_exactly_and_added_up() -> None:
    images = np.random.default_rng(1).integers(0, 200, (7, 10, 12, 3), dtype=np.uint8)
    images[..., 2] = 60
    first, second = PixelCounts(), PixelCounts()
    for number, image in enumerate(images):
        (first if number < 3 else second).add(image)
    found = (first + second).describe()
    exact = describe(images.reshape(-1, 3) / 255)
    for key in ("min", "max", "mean", "std", *QUANTILES):
        assert found[key].shape == (3, 1, 1)
        np.testing.assert_allclose(found[key][:, 0, 0], exact[key], rtol=1e-12, atol=1e-13)
    assert found["count"].tolist() == [7]


def test_large_images_are_thinned() -> None:
    counts = PixelCounts()
    counts.add(np.zeros((480, 640, 3), np.uint8))
    assert counts.counts is not None
    assert counts.counts[0, 0] == 120 * 160


@pytest.mark.parametrize(("length", "number"), [(1, 1), (50, 50), (100, 100), (300, 100), (1000, 177)])
def test_how_many_images_are_counted(length: int, number: int) -> None:
    chosen = sampled_images(length)
    assert len(chosen) == number
    assert {0, length - 1} <= chosen
