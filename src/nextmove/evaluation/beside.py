"""Errors of a policy and of the baselines over the same windows: by joint, step of the horizon and episode.

Shapes: E episodes, H horizon, A action width. Unit-free errors are divided by the spread of each dimension, so that
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
    """Mean absolute errors of a policy or baseline."""

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
    names: tuple[str, ...] = ()
    """Of the dimensions, where the data have them."""

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

    def relative_dim_errors(self, name: str = POLICY) -> Array:
        """(A,) the same over the spread; nan for a dimension that never moves."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.spread > 0, self.dim_errors(name) / self.spread, np.nan)

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

    def result(self, spread: Array, names: Sequence[str] = ()) -> Beside:
        """The means over everything added; spread (A,) and names as in `Beside`."""
        numbers = sorted(self.counts)
        count = np.array([self.counts[n] for n in numbers])
        sums = {name: np.array([self.sums[n][name] for n in numbers]) for name in self.sums[numbers[0]]}
        errors = {name: _errors(x, count, spread) for name, x in sums.items()}
        return Beside(spread, np.array(numbers), count, errors, tuple(names))


def _errors(sums: Array, count: Array, spread: Array) -> Errors:
    """sums (E, H, A) of absolute errors; count (E, H)."""
    moves = spread > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        free = (sums[..., moves] / spread[moves]).mean(-1) if moves.any() else np.full(count.shape, np.nan)
        return Errors(sums.sum(0) / count.sum(0)[:, None], free / count)


def beside_json(found: Beside) -> dict[str, Any]:
    """The report's JSON: means by joint, step and episode, of policy and baselines."""
    return {
        "verdict": verdict(found),
        "worse_than_doing_nothing": bool(set(IDLE) & set(_better(found))),
        "best_baseline": min(found.baselines, key=found.mean, default=None),
        "names": labels(found),
        "spread": found.spread,
        "episodes": found.episodes,
        "windows": found.count[:, 0],
        "count": found.count,
        "worse_at_steps": {name: found.worse(name) for name in found.baselines},
        "errors": {
            name: {
                "mean": found.mean(name),
                "by_step": found.step_errors(name),
                "by_joint": found.relative_dim_errors(name),
                "by_joint_raw": found.dim_errors(name),
                "by_step_and_joint_raw": found.errors[name].by_step,
                "by_episode": found.episode_errors(name),
                "by_episode_and_step": found.errors[name].by_episode,
            }
            for name in found.errors
        },
    }


def labels(found: Beside) -> list[str]:
    """The joints' names, or their places where the data name none."""
    return list(found.names) or [f"dimension {i}" for i in range(len(found.spread))]


def worst_dims(found: Beside, most: int) -> list[int]:
    """At most so many dimensions, in their order: all, or those of the largest errors over the spread."""
    errors = np.nan_to_num(found.relative_dim_errors(), nan=-1.0)
    return sorted(int(i) for i in np.argsort(-errors, kind="stable")[:most])


def verdict(found: Beside) -> str:
    """Whether the policy is better than doing nothing, which baseline is better, and at which steps, as text."""
    mine, steps = found.mean(), found.count.shape[1]
    if not np.isfinite(mine) or not found.baselines:
        return ""
    beaten = {name: found.worse(name) for name in found.baselines}
    better = _better(found)
    if set(better) & set(IDLE):
        head = "Worse than doing nothing"
    elif better:
        head = f"Better than doing nothing, worse than {better[0]}"
    else:
        head = "Better than doing nothing" + ("" if any(beaten.values()) else " at every step of the horizon")
    others = ", ".join(f"{name} {found.mean(name):.3g}" for name in found.baselines)
    alike = {_at(at, steps): [n for n in beaten if beaten[n] == at] for at in beaten.values() if at}
    sentences = [
        f" {_join(names).capitalize()} {'are' if names[1:] else 'is'} better {at}." for at, names in alike.items()
    ]
    return f"{head}: error {mine:.3g} of the actions' spread ({others}).{''.join(sentences)}"


def _better(found: Beside) -> list[str]:
    """Baselines of a smaller mean error than the policy's."""
    return [name for name in found.baselines if found.mean(name) < found.mean()]


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _at(found: Sequence[int], steps: int) -> str:
    """Steps as text: "at all 16 steps of the horizon", "at steps 1-3, 7 of 16"."""
    if len(found) == steps:
        return f"at all {steps} steps of the horizon" if steps > 1 else "at its only step"
    runs: list[list[int]] = []
    for step in found:
        if runs and runs[-1][-1] == step - 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"at {'step' if len(found) == 1 else 'steps'} {', '.join(parts)} of {steps}"
