"""What Meta-World's experts are about to do, in words: the sub-task of every step, from where hand and things are.

The package's experts are functions of what they see now: across to the thing, down to it, then what the task is about.
The sub-tasks are these phases, by the experts' own distances. Shapes: T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import SimulatorError, Task

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class _Phases:
    """Of a task: words for being too far aside, for being too high, and for the rest; distances in m."""

    across: str
    down: str
    then: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From the thing to where the hand goes down."""
    aside: float = 0.04
    above: float = 0.04


_PUCK, _HANDLE, _BESIDE = "Go down to the puck.", "Go down to the handle.", "Go down beside the handle."
_OVER_PUCK, _OVER_HANDLE = "Move above the puck.", "Move above the handle."
_PHASES = {
    "push": _Phases(_OVER_PUCK, _PUCK, "Push the puck to the marked point.", (-0.005, 0, 0), 0.02),
    "pick-place": _Phases(_OVER_PUCK, _PUCK, "Carry the puck to the marked point.", (-0.005, 0, 0), 0.02, 0.05),
    "door-open": _Phases(_OVER_HANDLE, _HANDLE, "Pull the door open.", (-0.05, 0, 0), 0.12),
    "drawer-open": _Phases(_OVER_HANDLE, _HANDLE, "Pull the drawer open.", (0, 0, -0.02), 0.06),
    "drawer-close": _Phases(
        "Move in front of the drawer.", "Go down in front of the drawer.", "Push the drawer shut.", (0, 0, -0.02)
    ),
    "button-press-topdown": _Phases("Move above the button.", "", "Press the button down.", above=np.inf),
    "peg-insert-side": _Phases(
        "Move above the peg.", "Go down to the peg.", "Push the peg into the hole.", above=0.025
    ),
    "window-open": _Phases(_OVER_HANDLE, _BESIDE, "Push the window open.", (-0.03, -0.03, -0.08), 0.04, 0.02),
    "window-close": _Phases(_OVER_HANDLE, _BESIDE, "Push the window shut.", (0.03, -0.03, -0.08), 0.04, 0.02),
}


def subtasks(task: Task, features: Mapping[str, Floats]) -> list[str]:
    """The sub-task of each of T steps; features: `observation.state` and `observation.environment_state` (T, ...).

    Raises SimulatorError for a task whose expert's phases have no words, naming those that have.
    """
    name = task.name.rpartition("/")[2]
    state, scene = features["observation.state"], features["observation.environment_state"]
    if name == "reach":
        return ["Move to the marked point."] * len(state)
    if name not in _PHASES:
        raise SimulatorError(
            f"{task.name}: expected a task whose sub-tasks have words, found one without; those with: reach, "
            f"{', '.join(_PHASES)} of metaworld"
        )
    phases, hand, gripper = _PHASES[name], state[:, :3], state[:, 3]
    thing, goal = scene[:, :3] + np.array(phases.offset), scene[:, -3:]
    aside = np.linalg.norm(hand[:, :2] - thing[:, :2], axis=1) > phases.aside
    high = np.abs(hand[:, 2] - thing[:, 2]) > phases.above
    words = np.full(len(state), phases.then, object)
    if name == "pick-place":
        words[gripper > 0.73] = "Grasp the puck."
        high &= scene[:, 2] < 0.04  # once it is lifted, the hand is where it should be
    elif name == "peg-insert-side":
        hole = np.stack([goal[:, 1], np.full(len(goal), 0.16)], 1)
        words[np.linalg.norm(scene[:, 1:3] - hole, axis=1) > 0.03] = "Carry the peg to the hole."
    elif name == "drawer-close":
        aside = hand[:, 1] > thing[:, 1]
    words[high] = phases.down
    words[aside] = phases.across
    return list(words)
