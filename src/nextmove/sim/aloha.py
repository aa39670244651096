"""ALOHA in simulation: two arms hand over a cube, or insert a peg (gym-aloha; Zhao et al. 2023, ACT).

Actions are absolute joint targets, radians, of 6 joints and a gripper (0 closed to 1 open) for each arm; the state is
where they are. The targets are those of weak controllers against dry friction: arms stop short of them, so that states
are no actions. The reward is the stage reached, 0 to 4; done at 4. Every episode begins in one pose of the arms, and
only cameras and `observation.environment_state` tell where the objects lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Array, Cameras, Info, Observation, Task
from nextmove.sim.missing import missing
from nextmove.sim.mujoco_render import prepare

HINT = "pip install gym-aloha==0.1.5 mujoco==3.3.0 dm-control==1.0.28"
"""What installs the simulator; with a later MuJoCo than gym-aloha was made for other contacts make other episodes."""


def _simulator(task: Task, cameras: Cameras, points: int) -> Any:
    prepare()
    try:
        from nextmove.sim._gym_aloha import Simulator
    except ImportError as problem:
        raise missing(task.name, "gym-aloha", problem, HINT) from problem
    return Simulator(task.settings["task"], cameras, task.cloud, points)


class Aloha:
    """The simulator of the `aloha` suite, whose tasks' `settings` name gym-aloha's task.

    `observation.state` (14,): left arm, then right; `observation.environment_state` (14,): x, y, z in metres and
    quaternion, w first, of the cube and seven zeros, or of peg and socket; `observation.images.*`: cameras, rendered
    at the size asked for; `observation.point_cloud`: the points asked for, m. info: `is_success` bool, `stage` 0 to 4,
    `objects` the environment's state in float64.
    """

    def __init__(self, task: Task, cameras: Cameras, points: int = 0) -> None:
        """Raises SimulatorError where it is not installed, or MUJOCO_GL names a library that is missing."""
        self.env = _simulator(task, cameras, points)

    @property
    def seeing(self) -> bool:
        """Whether cameras and points are computed; off, they are zeros."""
        return bool(self.env.seeing)

    @seeing.setter
    def seeing(self, on: bool) -> None:
        self.env.seeing = on

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Episode `seed`: the arms at rest, the objects placed at random."""
        observation, _ = self.env.reset(seed=seed)
        return observation, self._info(False, 0)

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """A fiftieth of a second towards `action`; over when it has succeeded."""
        observation, reward, terminated, _, info = self.env.step(action)
        return observation, float(reward), bool(terminated), self._info(bool(info["is_success"]), int(reward))

    def render(self) -> npt.NDArray[np.uint8]:
        """The scene from above, (480, 640, 3)."""
        return np.asarray(self.env.picture(), dtype=np.uint8)

    def close(self) -> None:
        """Frees physics and renderer."""
        self.env.close()

    def _info(self, success: bool, stage: int) -> Info:
        return {"is_success": success, "stage": stage, "objects": self.env.objects}
