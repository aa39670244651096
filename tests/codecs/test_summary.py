"""Moments by parts and by offsets are those of all numbers together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextmove.codecs.scaled import Scaled
from nextmove.codecs.shifted import quantiles, summaries
from nextmove.contracts.summary import Summary, beside, total

LENGTHS = (7, 1, 40, 3, 12)
GAPS = (0, 2, 0, 0, 5)


def same(found: Summary, values: Any) -> None:
    wide = values.astype(np.float64)
    assert found.count == len(values)
    np.testing.assert_array_equal(found.low, wide.min(0))
    np.testing.assert_array_equal(found.high, wide.max(0))
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-12, atol=1e-12 * np.abs(wide).max())
    np.testing.assert_allclose(found.std, wide.std(0), rtol=1e-9, atol=1e-13 * np.abs(wide).max())


def numbers(rows: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(3, 2, (rows, width)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 3, 200])
def test_blocks_and_parts_are_joined_exactly(width: int) -> None:
    values = numbers(3000, width)
    same(Summary.of(values), values)
    same(total((Summary.of(values[i : i + 700]) for i in range(0, 3000, 700)), width), values)
    weight = np.arange(3000) % 4
    same(Summary.of(values, weight), np.repeat(values, weight, axis=0))
    same(beside([Summary.of(values), Summary.of(-values)]), np.concatenate([values, -values], 1))


def test_a_large_mean_and_a_constant_lose_nothing() -> None:
    values = np.stack([1e6 + np.arange(5000) % 2, np.full(5000, 300.1)], 1).astype(np.float32)
    found = total((Summary.of(values[i : i + 11]) for i in range(0, 5000, 11)), 2)
    np.testing.assert_allclose(found.std, [0.5, 0], rtol=1e-10)
    assert found.std[1] == 0
    assert found.mean[1] == values[0, 1]


def windows(offset: int) -> tuple[Any, Any, Any, Any]:
    """A column with rows that belong to no episode, bounds, and what an offset reads."""
    starts, rows, at = [], [], 0
    for length, gap in zip(LENGTHS, GAPS, strict=True):
        starts.append(at + gap)
        at += gap + length
    column = numbers(at, 2)
    column[:, 1] = np.round(column[:, 1])
    start, stop = np.array(starts), np.array(starts) + LENGTHS
    for a, b in zip(start, stop, strict=True):
        rows += [min(max(r + offset, a), b - 1) for r in range(a, b)]
    return column, start, stop, column[rows]


@pytest.mark.parametrize("offsets", [range(-1, 15), range(60), (0,), (-3,), (-20, 20), (2, 5)])
def test_offsets_of_a_column_hold_what_their_windows_would(offsets: Any) -> None:
    column, start, stop, _ = windows(0)
    for offset, found in zip(offsets, summaries(column, start, stop, offsets), strict=True):
        same(found, windows(offset)[3])
    read = [windows(offset)[3] for offset in offsets]
    levels = (0.01, 0.25, 0.99)
    each = quantiles(column, start, stop, [[k] for k in offsets], levels)
    np.testing.assert_allclose(each, [np.quantile(v.astype(np.float64), levels, axis=0) for v in read], rtol=1e-12)
    (both,) = quantiles(column, start, stop, [list(offsets)], levels)
    np.testing.assert_allclose(both, np.quantile(np.concatenate(read).astype(float), levels, axis=0), rtol=1e-12)


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantiles", "quantile10"])
def test_a_scale_fitted_by_parts_is_that_of_all(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = numbers(500, 5)
    values[:, 4] = 0.1
    whole, parts = Scaled(5, mode=mode), Scaled(5, mode=mode)
    assert whole.fit(values) == [4]
    monkeypatch.setattr("nextmove.codecs.scaled.GATHERED", 1000)  # two dimensions at a time
    assert parts.fit_parts(lambda: ((values[i : i + 90], 0.0) for i in range(0, 500, 90))) == [4]
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(value, parts.state_dict()[name], rtol=1e-7)
    scale = {"mean_std": values.std(0)[0], "min_max": np.ptp(values[:, 0]) / 2}
    if mode in scale:
        assert float(whole.scale[0]) == pytest.approx(float(scale[mode]), rel=1e-6)
