"""Paired tests against hand values, closed forms and theory."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from nextmove.evaluation import EpisodeResult, compare
from nextmove.evaluation.paired import Difference, compare_all, holm, mcnemar, paired_bootstrap


def played(outcomes, first=0):
    return [
        EpisodeResult(first + i, bool(won), 1.0 if won else 0.5, 10, 10.0, np.zeros((10, 2), np.float32))
        for i, won in enumerate(outcomes)
    ]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (5, 0), (6, 16), (1, 2), (7, 7), (40, 60), (300, 420)])
def test_mcnemar_is_the_binomial_test(b, c):
    tail = sum(comb(b + c, i) for i in range(min(b, c) + 1))
    assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * tail / 2 ** (b + c)), rel=1e-12)


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match="expected at least 0, found -1 and 2"):
        mcnemar(-1, 2)


def test_mcnemar_by_hand():
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(1, 5) == 2 * (1 + 6) / 64


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_bootstrap_repeats_itself_and_follows_its_seed():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=60), rng.normal(size=60)
    assert paired_bootstrap(a, b) == paired_bootstrap(a, b)
    assert paired_bootstrap(a, b) != paired_bootstrap(a, b, seed=1)
    # The resampled means themselves, of pairs drawn in blocks of 500.
    rng = np.random.default_rng(3)
    means = np.concatenate([(a - b)[rng.integers(0, 60, (n, 60))].mean(1) for n in (500, 200)])
    found = paired_bootstrap(a, b, seed=3, resamples=700, confidence=0.9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), rel=1e-12)


def test_one_pair_has_an_interval_of_one_point():
    assert paired_bootstrap([1.0], [0.25]) == Difference(0.75, 0.75, 0.75)


def test_bootstrap_agrees_with_the_central_limit():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 400), rng.normal(0, 0.5, 400)
    found = paired_bootstrap(a, b)
    error = 1.96 * np.std(a - b) / np.sqrt(400)
    assert found.mean == pytest.approx(np.mean(a - b))
    assert found.low == pytest.approx(found.mean - error, abs=0.1 * error)
    assert found.high == pytest.approx(found.mean + error, abs=0.1 * error)


def test_pairing_removes_what_the_seeds_share():
    luck = np.random.default_rng(0).normal(size=100)
    found = paired_bootstrap(luck + 0.1, luck)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_compare_counts_pairs_in_any_order():
    a, b = played([1, 1, 1, 0, 0, 1]), played([1, 0, 0, 1, 0, 0])
    found = compare(a, b[::-1], names=("flow", "bc"))
    assert (found.both, found.only_a, found.only_b, found.neither, found.episodes) == (1, 3, 1, 1, 6)
    assert found.p == found.p_adjusted == mcnemar(3, 1)
    assert found.success.mean == pytest.approx(2 / 6)
    assert found.max_reward.mean == pytest.approx(1 / 6)


def test_compare_needs_the_same_seeds():
    with pytest.raises(ValueError, match="only in the first: seed 0; only in the second: seed 3"):
        compare(played([1, 0, 1]), played([1, 0, 1], first=1))
    with pytest.raises(ValueError, match="expected every seed once"):
        compare(played([1]) * 2, played([1]))
    with pytest.raises(ValueError, match="seeds"):
        compare([], [])


def test_all_pairs_are_corrected_together():
    results = {"a": played([1] * 20), "b": played([0] * 20), "c": played([1] * 19 + [0])}
    found = compare_all(results)
    assert [(pair.a, pair.b) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.p_adjusted for pair in found] == holm([pair.p for pair in found])
    assert found[0].p_adjusted == 3 * found[0].p
