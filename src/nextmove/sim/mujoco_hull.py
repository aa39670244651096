"""Which geoms of a MuJoCo scene lie outside of all that counts for an image, and need not be drawn.

Shapes: K sides of a convex region, G geoms.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Cloud, Size
from nextmove.sim.points import Eye

_SLACK = 5e-3
"""Metres by which a workspace is wider here: far more than a depth image is off."""


_ROUND, _LONG = ((1, 0, 0), (1, 0, 0), (1, 0, 0)), ((1, 0, 0), (1, 0, 0), (0, 1, 0))
_WHOLE, _NONE = ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 0, 0),) * 3
_SIDES = np.array([_NONE, _NONE, _ROUND, ((1, 0, 0), (1, 0, 0), (1, 1, 0)), _WHOLE, _LONG, _WHOLE, _NONE, _NONE], float)
"""Half the sides of what surrounds a geom from its sizes, by its type: plane, heightfield, sphere, capsule, ellipsoid,
cylinder, box, mesh, distance field."""


class Region:
    """A convex part of the world."""

    def __init__(self, sides: npt.NDArray[np.float64]) -> None:
        """sides: (K, 4), a unit normal n and an offset d each: n x + d <= 0 for places x inside, m of the world."""
        self._normals, self._offsets = sides[:, :3], sides[:, 3]

    def outside(self, model: Any, data: Any) -> npt.NDArray[np.bool_]:
        """Whether each geom of an MjModel and its MjData, (G,), lies beyond one side: never so for a plane."""
        turns = data.geom_xmat.reshape(-1, 3, 3)
        middle, half = model.geom_aabb[:, :3], _halves(model)
        places = data.geom_xpos + (turns @ middle[:, :, None])[:, :, 0]
        reach = (np.abs(self._normals @ turns) * half[:, None]).sum(-1)
        beyond = (places @ self._normals.T + self._offsets > reach).any(1)
        found: npt.NDArray[np.bool_] = beyond & (model.geom_type != 0)
        return found


def _halves(model: Any) -> npt.NDArray[np.float64]:
    """Half the sides (G, 3) of boxes around the geoms; shapes may have grown since the model was compiled."""
    found: npt.NDArray[np.float64] = (_SIDES[model.geom_type] @ model.geom_size[:, :, None])[:, :, 0]
    return np.maximum(found, model.geom_aabb[:, 3:])


def between(eye: Eye, cloud: Cloud) -> Region:
    """The convex hull of a camera and a workspace.

    Whatever hides a place of the workspace lies on a ray from the camera to it, so in there. What is seen where a geom
    outside was lies outside as well, or it would have hidden the geom.
    """
    from scipy.spatial import ConvexHull

    low, high = np.array(cloud.low) - _SLACK, np.array(cloud.high) + _SLACK
    corners = np.array(list(product(*zip(low, high, strict=True))))
    return Region(ConvexHull(np.vstack([corners, eye.pose[:3, 3]])).equations)


def seen(eye: Eye, size: Size) -> Region:
    """What a camera has before it, by the four sides of its image of `size` (height, width) pixels."""
    height, width = size
    (across, _, middle), (_, down, centre) = eye.intrinsics[0], eye.intrinsics[1]
    # A pixel counted from 0 at its centre ends half a pixel beyond.
    left, right = (middle + 0.5) / across, (width - 0.5 - middle) / across
    above, below = (centre + 0.5) / down, (height - 0.5 - centre) / down
    normals = np.array([[-1, 0, -left], [1, 0, -right], [0, -1, -above], [0, 1, -below]])
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True) @ eye.pose[:3, :3].T
    return Region(np.column_stack([normals, -normals @ eye.pose[:3, 3]]))
