"""Which geoms of a MuJoCo scene can stand between a camera and a workspace; no other need be drawn for its points.

Whatever hides a place of the workspace lies on a ray from the camera to it, so in the convex hull of camera and
workspace. What is drawn behind a geom that is left out lies outside as well, or the geom would not.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Cloud
from nextmove.sim.points import Eye

_SLACK = 5e-3
"""Metres by which the workspace is wider here: far more than a depth image is off."""


class Hull:
    """The convex hull of an eye and a workspace."""

    def __init__(self, eye: Eye, cloud: Cloud) -> None:
        from scipy.spatial import ConvexHull

        low, high = np.array(cloud.low) - _SLACK, np.array(cloud.high) + _SLACK
        corners = np.array(list(product(*zip(low, high, strict=True))))
        sides = np.unique(ConvexHull(np.vstack([corners, eye.pose[:3, 3]])).equations.round(12), axis=0)
        self._normals, self._offsets = sides[:, :3], sides[:, 3]

    def outside(self, model: Any, data: Any) -> npt.NDArray[np.bool_]:
        """Whether each geom of an MjModel and its MjData, (ngeom,), lies beyond one side of the hull: never a plane."""
        turns = data.geom_xmat.reshape(-1, 3, 3)
        middle, half = model.geom_aabb[:, :3], model.geom_aabb[:, 3:]
        places = data.geom_xpos + (turns @ middle[:, :, None])[:, :, 0]
        reach = (np.abs(self._normals @ turns) * half[:, None]).sum(-1)
        beyond = (places @ self._normals.T + self._offsets > reach).any(1)
        found: npt.NDArray[np.bool_] = beyond & (model.geom_type != 0)
        return found
