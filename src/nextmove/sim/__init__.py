"""Simulated robots: a table of tasks, one checked environment for all of them, and scripted experts.

Nothing here imports torch; a simulator's own packages are imported when it is made.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from nextmove.sim.base import POINTS, Asked, Episode, Simulator, SimulatorError, Task, load
from nextmove.sim.environment import Environment
from nextmove.sim.tasks import SUITES, find, task

__all__ = [
    "POINTS",
    "SUITES",
    "Environment",
    "Episode",
    "Simulator",
    "SimulatorError",
    "Task",
    "demonstrate",
    "find",
    "in_turn",
    "make",
    "task",
]


def make(
    name: str | Task, cameras: Asked = (), points: int = 0, told: Callable[[int], str] | None = None
) -> Environment:
    """The environment of a task; `cameras` adds images to the observations, `points` a cloud of so many points.

    Args:
        name: The task's name, or the task itself.
        cameras: (height, width) by name, or names, which then have the table's sizes; a name may be the last part of a
            camera's feature. A simulator renders at this size or refuses it.
        points: Points of a cloud.
        told: What is said in the episode of a seed in place of the task's instruction, such as `shuffled.Shuffled`.

    Raises SimulatorError for an unknown name or camera, a suite of several tasks, a size that the simulator does not
    render, points of a task without a cloud, or naming what to install.
    """
    one = name if isinstance(name, Task) else task(name)
    sized = one.sized(cameras)
    cloud = {"points": points} if one.clouds(points) else {}
    return Environment(one, load(one.make)(one, sized, **cloud), sized, points, told)


def demonstrate(name: str | Task, number: int, *, cameras: Asked = (), points: int = 0, **settings: Any) -> Episode:
    """Demonstration `number` of a task's scripted expert; a function of its arguments alone.

    The settings are those of the expert: `pusht_expert.demonstrate`. Raises SimulatorError for a task without one, and
    for a setting it does not have.
    """
    one = name if isinstance(name, Task) else task(name)
    if not one.expert:
        raise SimulatorError(f"{one.name}: expected a task with a scripted expert, found one without; record your own")
    expert = load(one.expert)
    for setting in settings:
        known = [n for n, p in inspect.signature(expert).parameters.items() if p.kind is p.KEYWORD_ONLY]
        if setting not in known:
            raise SimulatorError(f"{setting}: expected a setting of {one.name}'s expert ({', '.join(known)})")
    cloud = {"points": points} if one.clouds(points) else {}
    episode: Episode = expert(one, number, cameras=one.sized(cameras), **cloud, **settings)
    return episode


def in_turn(names: Sequence[str], number: int, **settings: Any) -> Episode:
    """Demonstration `number` of several tasks that take turns: of task number % N its demonstration number // N.

    The settings are those of `demonstrate`.
    """
    return demonstrate(names[number % len(names)], number // len(names), **settings)


def features(name: str, *, images: bool = False) -> dict[str, dict[str, Any]]:
    """`task(name).entries(...)`, as it was called; `images` adds the task's cameras."""
    warnings.warn("sim.features(name) is called sim.task(name).entries()", DeprecationWarning, stacklevel=2)
    found = task(name)
    return found.entries(tuple(found.cameras) if images else ())
