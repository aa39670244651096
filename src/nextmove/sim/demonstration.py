"""What scripted experts share: playing an episode, which of them are noisy, and when recording stops."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from nextmove.sim.base import Array, Episode, Info
from nextmove.sim.environment import Environment


def noisy(number: int, share: float) -> bool:
    """Whether episode `number` is a noisy one: of the first n, ceil(n share) are, spread evenly."""
    part = Fraction(share).limit_denominator(10**6)
    return ceil((number + 1) * part) > ceil(number * part)


def check(*, noisy_share: float, **numbers: float) -> None:
    """Raises ValueError for a share outside [0, 1] and for a negative number among an expert's settings."""
    if not 0 <= noisy_share <= 1:
        raise ValueError(f"noisy_share: expected a number in [0, 1], found {noisy_share!r}")
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{name}: expected 0 or more, found {value!r}")


def play(
    env: Environment,
    seed: int,
    act: Callable[[Info], Array],
    *,
    disturb: Callable[[Array], Array] | None = None,
    after: int = 0,
) -> Episode:
    """Episode `seed` of `env`, ending with its last step or `after` steps beyond the first success.

    act: the next action (A,), given the environment's info; called once before each step. disturb: what is executed in
    its place; the columns hold the action that was meant, so that recovering is demonstrated too. A task whose success
    holds ends with it, and no step follows.
    """
    observation, info = env.reset(seed=seed)
    rows: list[dict[str, Any]] = []
    ended, reached = False, 0
    while not ended and reached <= after:
        meant = np.asarray(act(info), dtype=np.float32)
        following, reward, terminated, truncated, info = env.step(meant if disturb is None else disturb(meant))
        ended, reached = terminated or truncated, reached + (reached > 0 or info["is_success"])
        came = {"next.reward": np.float32(reward), "next.done": False, "next.success": info["is_success"]}
        rows.append({**observation, "action": meant, **came})
        observation = following
    rows[-1]["next.done"] = True
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0] if name != "task"}
    return Episode(columns, reached > 0, {"steps": len(rows) - max(reached - 1, 0)})
