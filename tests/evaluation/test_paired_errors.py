"""Errors of two policies on the same episodes: SciPy's test, intervals of pairs, and a table of known cases."""

from __future__ import annotations

import numpy as np
import pytest

from nextmove.evaluation.beside import Beside, Errors
from nextmove.evaluation.paired_errors import compare_errors, paired_json, signed_rank


def beside(errors: np.ndarray, steps: int = 3, episodes: list[int] | None = None) -> Beside:
    """Each episode's error at every step; 5 windows each."""
    count = np.full((len(errors), steps), 5)
    by_episode = np.repeat(np.asarray(errors, float)[:, None], steps, 1)
    numbers = np.array(episodes if episodes is not None else range(len(errors)))
    return Beside(np.ones(1), numbers, count, {"policy": Errors(np.zeros((steps, 1)), by_episode)})


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        # All n differences of one sign: 2 / 2^n.
        ([1, 2, 3, 4, 5, 6], [0.9, 1.8, 2.7, 3.6, 4.5, 5.4], 2 / 2**6),
        ([1, 2], [0.5, 1], 0.5),
        ([1, 2, 3], [1, 2, 3], 1.0),
        # Ranks 1, 2 against 3: the sums 3 and 3 are as even as they can be.
        ([1.1, 1.2, 0.7], [1, 1, 1], 1.0),
    ],
)
def test_signed_ranks_of_known_cases(a: list[float], b: list[float], p: float) -> None:
    assert signed_rank(np.array(a), np.array(b)) == pytest.approx(p)


def test_pairs_are_counted_corrected_and_turned_into_intervals() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 1.5, 12)
    found = {"good": beside(base - 0.2), "bad": beside(base + rng.normal(0, 1e-3, 12)), "same": beside(base)}
    pairs = {(c.a, c.b): c for c in compare_errors(found)}
    first = pairs["good", "bad"]
    assert (first.episodes, first.less_a, first.less_b) == (12, 12, 0)
    assert first.p == pytest.approx(2 / 2**12)
    assert first.p_adjusted == pytest.approx(3 * first.p)
    assert first.error.low < -0.199 < first.error.high + 0.01
    assert first.error.mean == pytest.approx(-0.2, abs=1e-3)
    assert pairs["bad", "same"].p_adjusted > 0.05


def test_only_what_both_plan_is_compared_and_episodes_without_it_are_left_out() -> None:
    long = beside(np.arange(1.0, 5.0), steps=4)
    long.errors["policy"].by_episode[:, 2:] = 99.0
    long.count[3] = 0
    written = paired_json({"long": long, "short": beside(np.arange(1.0, 5.0) + 1, steps=2)}, 0.95)
    assert written["steps"] == 2
    assert written["pairs"][0]["episodes"] == 3
    assert written["pairs"][0]["error"]["mean"] == pytest.approx(-1)


def test_other_episodes_are_not_compared_and_one_policy_has_no_pair() -> None:
    one, other = beside(np.ones(2)), beside(np.ones(2), episodes=[0, 7])
    with pytest.raises(ValueError, match=r"expected the same for 'a' and 'b', found \[0, 1\] and \[0, 7\]"):
        compare_errors({"a": one, "b": other})
    assert "expected the same" in paired_json({"a": one, "b": other}, 0.95)["reason"]
    assert paired_json({"a": one}, 0.95)["pairs"] == []
