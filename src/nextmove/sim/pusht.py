"""PushT: a round pusher shoves a T onto its outline on the table (gym-pusht; Florence et al. 2021, Chi et al. 2023).

Pixels of a 512 x 512 world, y down, 10 actions a second, 300 at most. An action is where the pusher should go; a
critically damped controller takes it there with a time constant of 0.1 s. Done when more than 95 % of the goal's area
is covered; the reward is coverage / 0.95, at most 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim._tee import GOAL, SIZE, Floats, corners
from nextmove.sim.base import Array, Features, Info, Observation, SimulatorError, outcome, vector

_XY = [axis + str(i) for i in range(8) for axis in "xy"]
HINT = (
    "pip install gymnasium 'pymunk<7' pygame shapely opencv-python-headless && pip install --no-deps gym-pusht==0.1.8"
)
"""What installs the simulator; by itself gym-pusht brings an OpenCV that needs a system library."""


def _simulator() -> Any:
    """The gym-pusht environment class with a cheaper step."""
    try:
        from nextmove.sim._gym_pusht import Simulator
    except ImportError as problem:
        raise SimulatorError(f"pusht: needs gym-pusht ({problem}); {HINT}") from problem
    return Simulator


class PushT:
    """The `pusht` environment: observations in pixels under LeRobot's names, action (2,) in [0, 512].

    `observation.state` (2,): the pusher's x, y. `observation.environment_state` (16,): x, y of the T's 8 corners.
    `observation.goal` (16,): the same corners where they belong, always the same numbers. With `images`,
    `observation.image` uint8 (96, 96, 3). info: `is_success` bool, `coverage` in [0, 1], `block_pose` (3,) x, y px and
    angle, `agent` (2,).
    """

    name = "pusht"
    task = "Push the T-shaped block onto the T-shaped target."
    robot_type = "pusht"
    fps = 10
    max_steps = 300

    def __init__(self, *, images: bool = False) -> None:
        self._env = _simulator()(obs_type="environment_state_agent_pos", render_mode="rgb_array")
        self._images = images
        self._steps: int | None = None
        self._goal = corners(np.array(GOAL)).astype(np.float32).reshape(16)
        self.features = self.describe(images=images)

    @staticmethod
    def describe(*, images: bool = False) -> Features:
        """The LeRobot entries of all columns of an episode."""
        picture = {"dtype": "video", "shape": [96, 96, 3], "names": ["height", "width", "channels"]}
        return {
            "observation.state": vector(2, ["x", "y"]),
            "observation.environment_state": vector(16, _XY),
            "observation.goal": vector(16, _XY),
            **({"observation.image": picture} if images else {}),
            "action": vector(2, ["x", "y"]),
            **outcome(),
        }

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """Episode `seed`: pusher and T placed at random. The T may begin overlapping the pusher."""
        self._env.reset(seed=seed)
        self._steps = 0
        return self._observe(), self._info(self._env._get_coverage())

    def set_pose(self, agent: tuple[float, float], pose: tuple[float, float, float]) -> tuple[Observation, Info]:
        """Starts an episode with the pusher at `agent` and the T at `pose` (x, y px, angle)."""
        p, turned = np.array(pose[:2]), pose[2]
        c, s = np.cos(turned), np.sin(turned)
        # gym-pusht sets the position before the angle, which then turns the T about its centre of gravity (0, 45).
        start = p - [0, 45] + [-s * 45, c * 45]
        self._env.reset(options={"reset_to_state": [*agent, *start, turned]})
        self._steps = 0
        return self._observe(), self._info(self._env._get_coverage())

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, Info]:
        """A tenth of a second towards `action`; see `Environment`."""
        if self._steps is None:
            raise SimulatorError("step: expected reset(seed=...) first, and again after the end of an episode")
        target = np.asarray(action, dtype=np.float32)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise SimulatorError(f"action: expected 2 finite numbers in [0, {SIZE:.0f}] px, found {action!r}")
        coverage = self._env.advance(float(target[0]), float(target[1]))
        self._steps += 1
        info = self._info(coverage)
        terminated, truncated = bool(info["is_success"]), self._steps >= self.max_steps
        if terminated or truncated:
            self._steps = None
        return self._observe(), min(coverage / self._env.success_threshold, 1.0), terminated, truncated, info

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
        if self._images:
            observation["observation.image"] = np.asarray(self._env._render(), dtype=np.uint8)
        return observation

    def _pose(self) -> Floats:
        block = self._env.block
        return np.array([*block.position, block.angle])

    def _info(self, coverage: float) -> Info:
        agent = np.array(self._env.agent.position)
        reached = coverage > self._env.success_threshold
        return {"is_success": reached, "coverage": coverage, "block_pose": self._pose(), "agent": agent}
