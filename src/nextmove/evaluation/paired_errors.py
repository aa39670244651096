"""Paired tests of policies' errors on the same demonstrated episodes.

Windows of an episode resemble each other: an episode counts once, by its mean error over what both plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from nextmove.evaluation.beside import Beside
from nextmove.evaluation.episode import Array
from nextmove.evaluation.paired import Difference, holm, paired_bootstrap


@dataclass(frozen=True)
class ErrorComparison:
    """Policy `a` against policy `b` on the same episodes; errors over the spread of the demonstrated actions."""

    a: str
    b: str
    episodes: int
    less_a: int
    """Episodes in which `a` errs less."""
    less_b: int
    error: Difference
    p: float
    """Wilcoxon's signed rank test, two-sided, exact for so few episodes that it can be."""
    p_adjusted: float
    """After Holm's correction over all pairs compared together."""


def signed_rank(a: Array, b: Array) -> float:
    """Two-sided p that a - b is spread evenly around 0 (Wilcoxon 1945); 1 where nothing differs."""
    from scipy.stats import wilcoxon

    return 1.0 if np.array_equal(a, b) else float(wilcoxon(a, b).pvalue)


def common_steps(found: Mapping[str, Beside]) -> int:
    """Steps of the shortest horizon: what all of them plan."""
    return min(one.count.shape[1] for one in found.values())


def compare_errors(
    found: Mapping[str, Beside], *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> list[ErrorComparison]:
    """Every pair of policies in the order given; raises ValueError where they were judged on different episodes."""
    numbers = {name: one.episodes.tolist() for name, one in found.items()}
    for a, b in combinations(found, 2):
        if numbers[a] != numbers[b]:
            raise ValueError(f"episodes: expected the same for {a!r} and {b!r}, found {numbers[a]} and {numbers[b]}")
    steps = common_steps(found) if found else 0
    errors = {name: one.episode_errors(steps=steps) for name, one in found.items()}
    pairs = [_pair(a, b, errors[a], errors[b], resamples, seed, confidence) for a, b in combinations(found, 2)]
    adjusted = holm([pair.p for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _pair(a: str, b: str, x: Array, y: Array, resamples: int, seed: int, confidence: float) -> ErrorComparison:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    difference = paired_bootstrap(x, y, resamples=resamples, seed=seed, confidence=confidence)
    p = signed_rank(x, y)
    return ErrorComparison(a, b, len(x), int((x < y).sum()), int((y < x).sum()), difference, p, p)


def paired_json(found: Mapping[str, Beside], confidence: float) -> dict[str, Any]:
    """The report's JSON on pairs: empty for fewer than two policies, a reason where they cannot be compared.

    means, baselines: mean error over episodes of each policy and baseline, over the steps that all policies plan.
    """
    none: dict[str, Any] = {"steps": 0, "episodes": 0, "means": {}, "baselines": {}, "pairs": [], "reason": ""}
    if len(found) < 2:
        return none
    try:
        pairs = [dataclasses.asdict(pair) for pair in compare_errors(found, confidence=confidence)]
    except ValueError as problem:
        return none | {"reason": str(problem)}
    steps = common_steps(found)
    means = {name: float(np.nanmean(one.episode_errors(steps=steps))) for name, one in found.items()}
    first = next(iter(found.values()))
    others = {name: float(np.nanmean(first.episode_errors(name, steps))) for name in first.baselines}
    return none | {
        "steps": steps,
        "episodes": pairs[0]["episodes"],
        "means": means,
        "baselines": others,
        "pairs": pairs,
    }
