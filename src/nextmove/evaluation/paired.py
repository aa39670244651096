"""Paired tests of policies on the same seeds of the same tasks.

A pair is one (task, seed); tests and intervals count pairs alike, whatever the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from nextmove.evaluation.episode import Array, EpisodeResult
from nextmove.evaluation.keys import Key, episodes


@dataclass(frozen=True)
class Difference:
    """A mean difference, first policy minus second, with its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Policy `a` against policy `b` on the same episodes."""

    a: str
    b: str
    episodes: int
    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    """Exact McNemar, two-sided."""
    p_adjusted: float
    """After Holm's correction over all pairs compared together; equal to `p` for a single pair."""
    success: Difference
    max_reward: Difference


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p that `only_a` and `only_b` are fair coin flips (exact binomial form of McNemar 1947)."""
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts: expected at least 0, found {only_a} and {only_b}")
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_bootstrap(
    a: Array, b: Array, *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Difference:
    """Mean of a - b with the percentile interval over resampled pairs (Efron 1979); the same for the same seed."""
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if d.ndim != 1 or not len(d):
        raise ValueError(f"pairs: expected at least one, found shape {d.shape}")
    if len(d) == 1:
        return Difference(float(d[0]), float(d[0]), float(d[0]))
    from scipy.stats import bootstrap

    # Block by block, so that a thousand episodes do not need a table of ten million indices at once.
    options = {"n_resamples": resamples, "batch": 500, "rng": np.random.default_rng(seed)}
    found = bootstrap((d,), np.mean, method="percentile", confidence_level=confidence, **options).confidence_interval
    return Difference(float(d.mean()), float(found.low), float(found.high))


def by_key(results: Sequence[EpisodeResult], name: str) -> dict[Key, EpisodeResult]:
    """Episodes by task and seed; raises ValueError where one was played twice."""
    table = {result.key: result for result in results}
    if len(table) != len(results):
        twice = sorted(key for key, times in Counter(result.key for result in results).items() if times > 1)
        raise ValueError(f"{name}: expected every seed once of each task, found again {episodes(twice)}")
    return table


def compare(
    results_a: Sequence[EpisodeResult],
    results_b: Sequence[EpisodeResult],
    *,
    names: tuple[str, str] = ("a", "b"),
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """McNemar's test on success and bootstrap intervals of the differences; both must have played the same episodes."""
    a, b = by_key(results_a, names[0]), by_key(results_b, names[1])
    if not a or a.keys() != b.keys():
        raise ValueError(
            f"seeds: expected the same for {names[0]!r} and {names[1]!r}, found only in the first: "
            f"{episodes(sorted(a.keys() - b.keys())) or 'none'}; only in the second: "
            f"{episodes(sorted(b.keys() - a.keys())) or 'none'}"
        )
    keys = sorted(a)
    won_a, won_b = (np.array([t[k].success for k in keys]) for t in (a, b))
    best_a, best_b = (np.array([t[k].max_reward for k in keys]) for t in (a, b))
    only_a, only_b = int((won_a & ~won_b).sum()), int((won_b & ~won_a).sum())
    p = mcnemar(only_a, only_b)

    def difference(x: Array, y: Array) -> Difference:
        return paired_bootstrap(x, y, resamples=resamples, seed=seed, confidence=confidence)

    return Comparison(
        a=names[0],
        b=names[1],
        episodes=len(keys),
        both=int((won_a & won_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~won_a & ~won_b).sum()),
        p=p,
        p_adjusted=p,
        success=difference(won_a, won_b),
        max_reward=difference(best_a, best_b),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false alarm at the level of one test (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def compare_all(
    results: Mapping[str, Sequence[EpisodeResult]], *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> list[Comparison]:
    """Every pair of policies in the order given, their p-values corrected together."""
    pairs = [
        compare(results[a], results[b], names=(a, b), resamples=resamples, seed=seed, confidence=confidence)
        for a, b in combinations(results, 2)
    ]
    adjusted = holm([pair.p for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)]
