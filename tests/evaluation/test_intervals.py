"""Intervals against published tables and closed forms."""

from __future__ import annotations

import pytest

from nextmove.evaluation.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (50, 100, 0.4038, 0.5962),
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_against_published_tables(successes, episodes, low, high):
    rate = wilson(successes, episodes)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_contains_the_rate_and_widens_with_confidence():
    for k in range(11):
        narrow, wide = wilson(k, 10), wilson(k, 10, confidence=0.99)
        assert wide.low <= narrow.low <= narrow.rate <= narrow.high <= wide.high


def test_a_rate_reads_as_people_write_it():
    assert str(wilson(32, 50)) == "32/50 (64 %, 95 % interval 50 to 76)"


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match=f"found {k}/{n}"):
        wilson(k, n)


def test_confidence_is_a_share():
    with pytest.raises(ValueError, match="confidence: expected a share between 0 and 1, found 95"):
        wilson(1, 2, confidence=95)
