"""PushT: a round pusher pushes a T onto its outline on the table (gym-pusht; Florence et al. 2021, Chi et al. 2023).

Pixels of a 512 x 512 world, y down. An action is where the pusher should go; a critically damped controller takes it
there with a time constant of 0.1 s. Done when more than 95 % of the goal's area is covered; the reward is
coverage / 0.95, at most 1. The camera looks straight down: the world is drawn at 512 x 512 and scaled down to the size
asked for, as gym-pusht does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim._tee import GOAL, SIZE, Floats, corners
from nextmove.sim.base import Array, Cameras, Info, Observation, SimulatorError, Task, unseen
from nextmove.sim.missing import missing

CAMERA = "observation.image"
HINT = (
    "pip install gymnasium 'pymunk<7' pygame shapely opencv-python-headless && pip install --no-deps gym-pusht==0.1.8"
)
"""What installs the simulator; by itself gym-pusht brings an OpenCV that needs a system library."""


def _simulator() -> Any:
    """The gym-pusht environment class with a cheaper step."""
    try:
        from nextmove.sim._gym_pusht import Simulator
    except ImportError as problem:
        raise missing("pusht", "gym-pusht", problem, HINT) from problem
    return Simulator


class PushT:
    """The `pusht` simulator: observations in pixels under LeRobot's names, action (2,) in [0, 512].

    `observation.state` (2,): the pusher's x, y. `observation.environment_state` (16,): x, y of the T's 8 corners.
    `observation.goal` (16,): the same corners where they belong, always the same numbers. `observation.image` uint8
    (side, side, 3), side at most 512. info: `is_success` bool, `coverage` in [0, 1], `block_pose` (3,) x, y px and
    angle, `agent` (2,).
    """

    def __init__(self, task: Task, cameras: Cameras) -> None:
        """task: the only one there is. Raises SimulatorError for a size that the camera does not have."""
        size = cameras.get(CAMERA)
        if size is not None and (size[0] != size[1] or size[0] > SIZE):
            raise SimulatorError(
                f"cameras: {CAMERA}: expected a square of at most {SIZE:.0f} pixels a side, as the world is drawn, "
                f"found {size[0]} x {size[1]}"
            )
        drawn = {} if size is None else {"observation_height": size[0], "observation_width": size[1]}
        self._env = _simulator()(obs_type="environment_state_agent_pos", render_mode="rgb_array", **drawn)
        self._cameras = dict(cameras)
        self.seeing = True
        """Whether the camera is drawn; off, it is zeros."""
        self._goal = corners(np.array(GOAL)).astype(np.float32).reshape(16)

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Episode `seed`: pusher and T placed at random. The T may begin overlapping the pusher."""
        self._env.reset(seed=seed)
        return self._observe(), self._info(self._env._get_coverage())

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """A tenth of a second towards `action`; over when it has succeeded."""
        coverage = self._env.advance(float(action[0]), float(action[1]))
        info = self._info(coverage)
        return self._observe(), min(coverage / self._env.success_threshold, 1.0), info["is_success"], info

    def render(self) -> npt.NDArray[np.uint8]:
        """The table at (680, 680, 3), with a cross at the last action."""
        return np.asarray(self._env.render(), dtype=np.uint8)

    def close(self) -> None:
        """Nothing to free; the contract asks for it."""

    def _observe(self) -> Observation:
        observation = {
            "observation.state": np.array(self._env.agent.position, dtype=np.float32),
            "observation.environment_state": corners(self._pose()).astype(np.float32).reshape(16),
            "observation.goal": self._goal.copy(),
        }
        if not self.seeing:
            return observation | unseen(self._cameras)
        if self._cameras:
            observation[CAMERA] = np.asarray(self._env._render(), dtype=np.uint8)
        return observation

    def _pose(self) -> Floats:
        block = self._env.block
        return np.array([*block.position, block.angle])

    def _info(self, coverage: float) -> Info:
        agent = np.array(self._env.agent.position)
        reached = bool(coverage > self._env.success_threshold)
        return {"is_success": reached, "coverage": coverage, "block_pose": self._pose(), "agent": agent}
