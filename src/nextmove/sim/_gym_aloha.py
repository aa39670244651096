"""gym-aloha's environment with the cameras that are asked for; importing this module imports MuJoCo."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")  # renders without a display

import numpy as np
from gym_aloha.env import AlohaEnv

from nextmove.sim.base import Cameras


class Simulator(AlohaEnv):
    """The same numbers and pixels as gym-aloha's, which renders three cameras of 480 x 640 at every step."""

    def __init__(self, task: str, cameras: Cameras) -> None:
        super().__init__(task, obs_type="pixels_agent_pos")
        self._cameras = {name: (name.rpartition(".")[2], *size) for name, size in cameras.items()}
        self._env.task.get_observation = self._observe

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the buffer that MuJoCo renders into."""
        buffer = self._env.physics.model.vis.global_
        return int(buffer.offheight), int(buffer.offwidth)

    def _observe(self, physics: Any) -> dict[str, Any]:
        images = {
            name: physics.render(height=height, width=width, camera_id=camera).copy()
            for name, (camera, height, width) in self._cameras.items()
        }
        return {"observation.state": self._env.task.get_qpos(physics).astype(np.float32), **images}

    def _format_raw_obs(self, raw_obs: dict[str, Any]) -> dict[str, Any]:
        return dict(raw_obs)

    def close(self) -> None:
        """Frees the renderer, which gym-aloha leaves open."""
        self._env.close()
