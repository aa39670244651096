"""Meta-World's own scripted experts, one for each of its 50 tasks, made ready for demonstrations.

They know the objects' places and the goal and answer with numbers of up to 25, which are clipped to the action's
range before they are executed and stored.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Array, Cameras, Episode, Info, Size, Task
from nextmove.sim.demonstration import check, noisy, play
from nextmove.sim.environment import Environment
from nextmove.sim.kept import kept_open
from nextmove.sim.metaworld import MetaWorld
from nextmove.sim.tasks import task as find

MORE = 10
"""Steps that a demonstration goes on after it has succeeded."""


class Expert:
    """The package's expert of a task: `expert(info)` is the next action (4,), -1 to 1, given the environment's info."""

    def __init__(self, task: Task) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        kind: Any = ENV_POLICY_MAP[task.settings["env"]]
        self._policy = kind()

    def __call__(self, info: Info) -> npt.NDArray[np.float32]:
        """The next action, a function of the observation alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that answers beyond the range are clipped
            return np.clip(self._policy.get_action(info["observation"]), -1, 1).astype(np.float32)


class _Noise:
    """What is added to the motion of an episode; a gripper that opens by chance would drop what it holds."""

    def __init__(self, spread: float, rng: np.random.Generator) -> None:
        self._spread, self._rng = spread * np.array([1, 1, 1, 0]), rng

    def __call__(self, meant: Array) -> Array:
        """The action that is executed in place of the one meant."""
        return (meant + self._spread * self._rng.standard_normal(4)).clip(-1, 1)


@kept_open
def _environment(name: str, cameras: tuple[tuple[str, Size], ...], points: int) -> Environment:
    task = find(name)
    return Environment(task, MetaWorld(task, dict(cameras), points), dict(cameras), points)


def demonstrate(
    task: Task,
    number: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    noisy_share: float = 1.0,
    cameras: Cameras | None = None,
    points: int = 0,
    more: int = MORE,
) -> Episode:
    """Demonstration `number`: the environment's episode `seed` + `number`, the same in every process.

    It ends `more` steps after the first success, or with the last step there is. A share `noisy_share` in [0, 1] of
    them, spread evenly over the numbers, has noise of a standard deviation of `noise` cm on the executed motion; the
    columns hold the actions that were meant. The episode may have failed. Errors: ValueError naming the setting.
    """
    check(noisy_share=noisy_share, number=number, seed=seed, noise=noise, more=more)
    environment = _environment(task.name, tuple((cameras or {}).items()), points)
    disturb = None
    if noise and noisy(number, noisy_share):
        disturb = _Noise(noise, np.random.default_rng((seed + number, 1)))
    return play(environment, seed + number, Expert(task), disturb=disturb, after=more)
