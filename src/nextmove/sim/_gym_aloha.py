"""gym-aloha's environment with the cameras that are asked for; importing this module imports MuJoCo."""

from __future__ import annotations

from typing import Any

import numpy as np
from gym_aloha.env import AlohaEnv

from nextmove.sim.base import POINTS, Cameras, Cloud, looked, unseen
from nextmove.sim.mujoco_render import Views


class Simulator(AlohaEnv):
    """The same numbers as gym-aloha's, which renders three cameras of 480 x 640 at every step."""

    def __init__(self, task: str, cameras: Cameras, cloud: Cloud | None = None, points: int = 0) -> None:
        super().__init__(task, obs_type="pixels_agent_pos")
        self._cloud, self._points = cloud, points
        self._cameras = dict(cameras)
        self.seeing = True
        self.physics = self._env.physics
        self._views = Views(self.physics.model.ptr, self.physics.data.ptr)
        self._env.task.get_observation = self._observe

    @property
    def objects(self) -> Any:
        """Poses of cube and nothing (zeros), or of peg and socket: x, y, z and quaternion, w first, float64 (14,)."""
        found = self._env.task.get_env_state(self.physics)
        return np.pad(found, (0, 14 - len(found)))

    def picture(self) -> Any:
        """The scene from above, uint8 (480, 640, 3)."""
        return self._views.rgb("top", (480, 640))

    def _observe(self, physics: Any) -> dict[str, Any]:
        numbers = {
            "observation.state": self._env.task.get_qpos(physics).astype(np.float32),
            "observation.environment_state": self.objects.astype(np.float32),
        }
        if not self.seeing:
            return numbers | unseen(self._cameras, self._points)
        cloud = {POINTS: self._views.points(self._cloud, self._points)} if self._cloud and self._points else {}
        return numbers | cloud | looked(self._cameras, self._views.rgb, self._views.depth)

    def _format_raw_obs(self, raw_obs: dict[str, Any]) -> dict[str, Any]:
        return dict(raw_obs)

    def close(self) -> None:
        """Frees the physics and the renderer, which gym-aloha leaves open."""
        self._views.close()
        self._env.close()
