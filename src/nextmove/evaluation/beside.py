"""Errors of a policy and of the baselines over the same windows: by joint, step of the horizon and episode.

Letters: E episodes, H horizon, A action width. Unit-free errors are divided by the spread of each dimension, so that
radians, metres and grippers can be averaged and compared; always planning the mean errs by about 0.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nextmove.evaluation.baselines import IDLE
from nextmove.evaluation.episode import Array

POLICY = "policy"


@dataclass(frozen=True, eq=False)
class Errors:
    """Mean absolute errors of one who plans."""

    by_step: Array
    """(H, A), in action units."""
    by_episode: Array
    """(E, H), unit-free, mean over the dimensions that move."""


@dataclass(frozen=True, eq=False)
class Beside:
    """A policy's errors beside the baselines', on the same steps of the same windows."""

    spread: Array
    """(A,) standard deviation of the demonstrated actions; 0 for a dimension that never moves."""
    episodes: Array
    """(E,) numbers of the judged episodes."""
    count: Array
    """(E, H) windows that count at each step: those whose episode was not over."""
    errors: Mapping[str, Errors]
    """By name: `policy`, then the baselines."""

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines."""
        return tuple(name for name in self.errors if name != POLICY)

    def episode_errors(self, name: str = POLICY, steps: int = 0) -> Array:
        """(E,) unit-free mean error in each episode over the first `steps` of the horizon (0: all); nan where none.

        What two policies judged on the same data are paired by.
        """
        count = self.count[:, : steps or None]
        return _mean(self.errors[name].by_episode[:, : steps or None], count, 1)

    def step_errors(self, name: str = POLICY) -> Array:
        """(H,) unit-free mean error at each step of the horizon."""
        return _mean(self.errors[name].by_episode, self.count, 0)

    def dim_errors(self, name: str = POLICY) -> Array:
        """(A,) mean absolute error of each dimension in action units."""
        return _mean(self.errors[name].by_step, self.count.sum(0)[:, None], 0)

    def mean(self, name: str = POLICY) -> float:
        """Unit-free mean error over everything that counts."""
        return float(_mean(self.errors[name].by_episode, self.count, None))

    def worse(self, name: str) -> list[int]:
        """Steps of the horizon, the first being 1, at which the policy's error is above this baseline's."""
        mine, other = self.step_errors(), self.step_errors(name)
        return [int(i) + 1 for i in np.flatnonzero(mine > other)]


def _mean(values: Array, weight: Array, axis: int | None) -> Any:
    """Weighted mean; entries of no weight may hold anything; nan where nothing has weight."""
    weight = np.broadcast_to(weight, values.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, values * weight, 0).sum(axis) / weight.sum(axis)


class Tally:
    """Sums that become `Beside`, batch by batch."""

    def __init__(self) -> None:
        self.sums: dict[int, dict[str, Array]] = {}
        self.counts: dict[int, Array] = {}

    def add(self, episodes: Array, errors: Mapping[str, Array], real: Array) -> None:
        """episodes (B,); absolute errors (B, H, A) by name; real (B, H) bool: the steps that count."""
        for number in np.unique(episodes):
            rows = (episodes == number)[:, None] & real
            count = rows.sum(0)
            self.counts[int(number)] = self.counts.get(int(number), np.zeros_like(count)) + count
            sums = self.sums.setdefault(int(number), {})
            for name, error in errors.items():
                part = np.where(rows[..., None], error, 0.0).sum(0, dtype=np.float64)
                sums[name] = sums.get(name, np.zeros_like(part)) + part

    def result(self, spread: Array) -> Beside:
        """The means over everything added; spread (A,) as in `Beside`."""
        numbers = sorted(self.counts)
        count = np.array([self.counts[n] for n in numbers])
        sums = {name: np.array([self.sums[n][name] for n in numbers]) for name in self.sums[numbers[0]]}
        return Beside(spread, np.array(numbers), count, {name: _errors(x, count, spread) for name, x in sums.items()})


def _errors(sums: Array, count: Array, spread: Array) -> Errors:
    """sums (E, H, A) of absolute errors; count (E, H)."""
    moves = spread > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        free = (sums[..., moves] / spread[moves]).mean(-1) if moves.any() else np.full(count.shape, np.nan)
        return Errors(sums.sum(0) / count.sum(0)[:, None], free / count)


def verdict(found: Beside) -> str:
    """Whether the policy is better than doing nothing, which baseline is better, and at which steps, in words."""
    mine, steps = found.mean(), found.count.shape[1]
    if not np.isfinite(mine) or not found.baselines:
        return ""
    beaten = {name: found.worse(name) for name in found.baselines}
    better = [name for name in found.baselines if found.mean(name) < mine]
    if set(better) & set(IDLE):
        head = "Worse than doing nothing"
    elif better:
        head = f"Better than doing nothing, worse than {better[0]}"
    else:
        head = "Better than doing nothing" + ("" if any(beaten.values()) else " at every step of the horizon")
    others = ", ".join(f"{name} {found.mean(name):.3g}" for name in found.baselines)
    told = "".join(f" {name.capitalize()} is better {_at(at, steps)}." for name, at in beaten.items() if at)
    return f"{head}: error {mine:.3g} of the actions' spread ({others}).{told}"


def _at(found: Sequence[int], steps: int) -> str:
    """Steps in words: "at all 16 steps", "at steps 1-3, 7"."""
    if len(found) == steps:
        return f"at all {steps} steps of the horizon"
    runs: list[list[int]] = []
    for step in found:
        if runs and runs[-1][-1] == step - 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"at {'step' if len(found) == 1 else 'steps'} {', '.join(parts)} of {steps}"
