"""gym-pusht's environment with a cheaper step; importing this module imports pygame, pymunk and shapely."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import shapely
from gym_pusht.envs.pusht import PushTEnv


class Simulator(PushTEnv):
    """The same numbers as gym-pusht's own `step`, to the last bit, at a fraction of its cost."""

    _goal: Any = None

    def _handle_collision(self, arbiter: Any, space: Any, data: Any) -> None:
        """Nothing: counting contact points costs more than the physics, and nothing reads the count."""

    def _outline(self, body: Any) -> Any:
        boxes = [[body.local_to_world(v) for v in shape.get_vertices()] for shape in self.block.shapes]
        return shapely.multipolygons(shapely.polygons(np.array(boxes)))

    def _get_coverage(self) -> float:
        if self._goal is None:
            self._goal = self._outline(self.get_goal_pose_body(self.goal_pose))
            self._area = self._goal.area
        return float(self._goal.intersection(self._outline(self.block)).area / self._area)

    def advance(self, x: float, y: float) -> float:
        """One control step towards (x, y) with the controller in plain floats; returns the coverage reached."""
        self._last_action = np.array([x, y], dtype=np.float32)
        agent, space, dt, kp, kv = self.agent, self.space, self.dt, self.k_p, self.k_v
        for _ in range(int(1 / (dt * self.control_hz))):
            (px, py), (vx, vy) = agent.position, agent.velocity
            ax, ay = kp * (x - px) + kv * (0 - vx), kp * (y - py) + kv * (0 - vy)
            agent.velocity = (vx + ax * dt, vy + ay * dt)
            space.step(dt)
        return self._get_coverage()
