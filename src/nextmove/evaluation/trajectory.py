"""One demonstrated episode and the plans a policy made along it, for a plot.

Shapes: T steps of the episode, n plans, H their length, A action width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nextmove.contracts import Actor, Batch, Rows, seeded
from nextmove.evaluation.episode import Array

LONGEST = 1500
"""Steps of an episode that a plot holds."""
DIGITS = 5
"""Significant digits of the numbers in a file: more than a plot shows."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Actions in the robot's units."""

    episode: int
    demo: Array
    """(T, A) as demonstrated."""
    starts: Array
    """(n,) step of the episode at which each plan's first action is due."""
    plans: Array
    """(n, H, A), made of what was observed in the demonstration, one after the other."""
    fps: float

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "episode": int(self.episode),
            "demo": _short(self.demo),
            "starts": self.starts.tolist(),
            "plans": _short(self.plans),
            "fps": float(self.fps),
        }

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Trajectory:
        """From `record`'s values."""
        numbers = {name: np.array(record[name], np.float64) for name in ("demo", "plans")}
        return cls(int(record["episode"]), starts=np.array(record["starts"]), fps=float(record["fps"]), **numbers)


def _short(values: Array) -> Any:
    """Lists of numbers of few digits, None where they are not finite."""
    if values.ndim:
        return [_short(part) for part in values]
    return float(f"{values:.{DIGITS}g}") if np.isfinite(values) else None


def follow(policy: Actor, batch: Batch, episode: int, demo: Array, starts: Array, fps: float) -> Trajectory:
    """The plans of a policy along an episode; batch: windows of what was observed at `starts`."""
    obs = {k: v for k, v in batch.items() if k.startswith("observation.") or k == "task"}
    rng = Rows([seeded(0, int(i)) for i in batch["index"]])
    plans = policy.act(obs, rng=rng).actions.float().cpu().numpy()
    return Trajectory(episode, np.asarray(demo, np.float64), starts, plans.astype(np.float64), fps)
