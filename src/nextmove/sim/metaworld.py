"""Meta-World: one Sawyer arm and 50 tasks on a table (Yu et al. 2019; metaworld 3).

An action moves the hand by its first three numbers, of -1 to 1, in cm along the axes of the world, and closes the
gripper with its fourth (1; -1 opens it); what lies beyond -1 to 1 is clipped. Every seed has a variation of its own:
where the objects and the goal are. The reward is 0 to 10. Success is momentary, so that an episode goes on after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import POINTS, Array, Cameras, Info, Observation, Size, Task, looked, unseen
from nextmove.sim.missing import missing
from nextmove.sim.mujoco_render import Views, prepare

HINT = "pip install metaworld==3.1.1 packaging"
"""What installs the simulator: gymnasium's part for MuJoCo imports packaging without saying so."""
HAND = 4
"""Numbers of Meta-World's observation that are about the robot itself."""
_NOW = 18
"""Numbers of it that are of now; as many follow of a step ago, then the goal."""
_UPRIGHT = {"corner2": "corner4"}
"""Where LeRobot puts corner2, so that the hand fills more of the image, is where the package has its corner4."""
_UNMIRRORED = ("corner4", "topview", "behindGripper", "gripperPOV")
"""Cameras of the package that do not see what the floor reflects."""
_TURNED = ("corner", "corner3", "corner4")
"""Cameras of the package that are mounted upside down."""


def world(task: Task) -> Any:
    """The package's environment, which shows the goal; raises SimulatorError where it is not installed."""
    prepare()
    try:
        from metaworld import env_dict
    except ImportError as problem:
        raise missing(task.name, "metaworld", problem, HINT) from problem
    kind: Any = env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task.settings['env']}-goal-observable"]
    return kind(seed=0)


def draw(env: Any, seed: int) -> Array:
    """Puts the package's environment at the start of variation `seed`; its observation (39,) float64.

    A reset of the package draws twice and shows, until a step is made, where things would be by the first draw: objects
    and goals are off by up to 0.2 m. So the second draw is kept and begun with, as the package does with the variations
    of its benchmarks, of which some still show a door or window where it is not.
    """
    import mujoco

    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env.seed(seed)
    env.reset()
    env._freeze_rand_vec = True
    env.reset()
    mujoco.mj_kinematics(env.model, env.data)
    numbers: Array = env._get_obs()
    numbers[_NOW:-3] = numbers[:_NOW]
    return numbers


class MetaWorld:
    """The simulator of the tasks `metaworld/*`, whose settings name the package's environment.

    `observation.state` (4,): where the hand is, m, and how far the gripper is open, 0 to 1.
    `observation.environment_state` (35,): two objects' places and orientations, all of that a step ago, the goal.
    info: `is_success`, and the package's `observation` (39,) float64.
    """

    def __init__(self, task: Task, cameras: Cameras, points: int = 0) -> None:
        """points: of a cloud, which is `observation.point_cloud`, (points, 3) m; 0: none."""
        self._env = world(task)
        self._views = Views(self._env.model, self._env.data, unmirrored=_UNMIRRORED)
        self._cameras = dict(cameras)
        self._cloud, self._points = task.cloud, points
        self.seeing = True
        """Whether cameras and points are computed; off, they are zeros."""

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Variation `seed`, the hand where the task has it."""
        numbers = draw(self._env, seed)
        return self._observe(numbers), {"is_success": False, "observation": numbers}

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """An eightieth of a second; never over by itself."""
        numbers, reward, _, _, info = self._env.step(action)
        return (
            self._observe(numbers),
            float(reward),
            False,
            {"is_success": bool(info["success"]), "observation": numbers},
        )

    def image(self, camera: str, size: Size) -> npt.NDArray[np.uint8]:
        """What a camera sees, upright, (height, width, 3)."""
        name = _UPRIGHT.get(camera, camera)
        return _turned(name, self._views.rgb(name, size))

    def depth(self, camera: str, size: Size) -> npt.NDArray[np.float32]:
        """Metres along the optical axis of a camera, upright, (height, width)."""
        name = _UPRIGHT.get(camera, camera)
        return _turned(name, self._views.depth(name, size))

    def render(self) -> npt.NDArray[np.uint8]:
        """The scene as LeRobot shows it, (480, 480, 3)."""
        return self.image("corner2", (480, 480))

    def close(self) -> None:
        """Frees the renderer."""
        self._views.close()
        self._env.close()

    def _observe(self, numbers: Array) -> Observation:
        found = numbers.astype(np.float32)
        seen: Observation = {"observation.state": found[:HAND], "observation.environment_state": found[HAND:]}
        if not self.seeing:
            return seen | unseen(self._cameras, self._points)
        if self._points and self._cloud:
            seen[POINTS] = self._views.points(self._cloud, self._points)
        return seen | looked(self._cameras, self.image, self.depth)


def _turned(camera: str, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(image[::-1, ::-1]) if camera in _TURNED else image
