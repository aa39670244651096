"""Point clouds from depth: every pixel's place in the world, a workspace of them, and an even choice of so many.

Shapes: H, W of the depth image, N points, P those chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Cloud, SimulatorError

Points = npt.NDArray[np.float32]
_TABLE = 0.003
"""Metres around the table's height in which points are the table's."""


@dataclass(frozen=True)
class Eye:
    """How a depth image was taken.

    intrinsics: (3, 3), column and row of a pixel, counted from 0 at the centres, times depth, from the camera's x, y,
    z (right, down, into the scene). pose: (4, 4), from there to the world's metres.
    """

    intrinsics: npt.NDArray[np.float64]
    pose: npt.NDArray[np.float64]


def point_cloud(depth: npt.NDArray[np.float32], eye: Eye, cloud: Cloud, count: int) -> Points:
    """(count, 3) points of the workspace, metres of the world, evenly over what is seen of it.

    Raises SimulatorError where the camera sees nothing of the workspace.
    """
    found = workspace(unproject(depth, eye), cloud)
    if not len(found):
        raise SimulatorError(f"points: expected to see something of the workspace by {cloud.camera}, found nothing")
    return np.ascontiguousarray(found[farthest(found, count)])


def unproject(depth: npt.NDArray[np.float32], eye: Eye) -> Points:
    """(H * W, 3): where in the world the pixels of a depth image (H, W), metres along the optical axis, are."""
    height, width = depth.shape
    focal_x, focal_y = eye.intrinsics[0, 0], eye.intrinsics[1, 1]
    x = (np.arange(width) - eye.intrinsics[0, 2]) / focal_x
    y = (np.arange(height) - eye.intrinsics[1, 2]) / focal_y
    metres = depth.astype(np.float64)
    seen = np.stack([x * metres, y[:, None] * metres, metres], -1).reshape(-1, 3)
    return (seen @ eye.pose[:3, :3].T + eye.pose[:3, 3]).astype(np.float32)


def workspace(points: Points, cloud: Cloud) -> Points:
    """Those of the points (N, 3) that lie between the corners and not on the table."""
    inside = ((points >= np.array(cloud.low, np.float32)) & (points <= np.array(cloud.high, np.float32))).all(1)
    return points[inside & (np.abs(points[:, 2] - np.float32(cloud.plane)) > _TABLE)]


def farthest(points: Points, count: int) -> npt.NDArray[np.int64]:
    """Numbers (count,) of the points (N, 3) chosen one by one, each farthest from those before (Eldar et al. 1997).

    The first is the one farthest from the mean; of several at one distance the first in order. Where there are fewer
    than `count`, all are chosen and then again from the beginning. The same on every machine: no sum is left to the
    processor's ways.
    """
    x, y, z = (np.ascontiguousarray(points[:, axis]) for axis in range(3))
    chosen = np.empty(min(count, len(points)), np.int64)
    nearest = np.full(len(points), np.inf, np.float32)
    centre = points.astype(np.float64).mean(0).astype(np.float32)
    chosen[0] = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).argmax()
    for number in range(1, len(chosen)):
        last = chosen[number - 1]
        np.minimum(nearest, (x - x[last]) ** 2 + (y - y[last]) ** 2 + (z - z[last]) ** 2, out=nearest)
        chosen[number] = nearest.argmax()
    return np.resize(chosen, count)
