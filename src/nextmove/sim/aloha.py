"""ALOHA in simulation: two arms hand over a cube, or insert a peg (gym-aloha; Zhao et al. 2023, ACT).

Actions are absolute joint targets, radians, of 6 joints and a gripper (0 closed to 1 open) for each arm; the state is
where they are. The reward is the stage reached, 0 to 4; done at 4. Every episode begins in one pose of the arms, so
only cameras see where the objects lie. There is no expert: demonstrations are LeRobot's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Array, Cameras, Info, Observation, SimulatorError, Task

HINT = "pip install gym-aloha==0.1.5 mujoco==3.3.0 dm-control==1.0.28"
"""What installs the simulator; with a later MuJoCo than gym-aloha was made for other contacts make other episodes."""


def _simulator(task: Task, cameras: Cameras) -> Any:
    try:
        from nextmove.sim._gym_aloha import Simulator
    except ImportError as problem:
        raise SimulatorError(f"{task.name}: needs gym-aloha ({problem}); {HINT}") from problem
    except AttributeError as problem:  # MuJoCo's own answer where it finds no library to render with
        raise SimulatorError(
            f"{task.name}: MuJoCo finds no library to render with ({problem}); apt-get install libegl1 libegl-mesa0 "
            "libgl1 libgl1-mesa-dri, or set MUJOCO_GL to one that is there (egl, osmesa, glfw)"
        ) from problem
    return Simulator(task.settings["task"], cameras)


class Aloha:
    """The simulator of the `aloha` suite, whose tasks' `settings` name gym-aloha's task.

    `observation.state` (14,): left arm, then right; `observation.images.*`: cameras, rendered at the size asked for.
    """

    def __init__(self, task: Task, cameras: Cameras) -> None:
        """Raises SimulatorError where it is not installed, and for a size beyond MuJoCo's buffer, 480 x 640."""
        self._env = _simulator(task, cameras)
        height, width = self._env.largest
        for name, size in cameras.items():
            if size[0] > height or size[1] > width:
                self.close()
                raise SimulatorError(
                    f"cameras: {name}: expected at most {height} x {width}, found {size[0]} x {size[1]}"
                )

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Episode `seed`: the arms at rest, the objects placed at random."""
        observation, info = self._env.reset(seed=seed)
        return observation, info

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """A fiftieth of a second towards `action`; over when it has succeeded."""
        observation, reward, terminated, _, info = self._env.step(action)
        return observation, float(reward), bool(terminated), {"is_success": bool(info["is_success"])}

    def render(self) -> npt.NDArray[np.uint8]:
        """The scene from above, (480, 640, 3)."""
        return np.asarray(self._env.render(), dtype=np.uint8)

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()
