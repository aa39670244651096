"""Point clouds from depth: every pixel's place in the world, a workspace of them, and an even choice of so many.

Shapes: H, W of the depth image, N points, P those chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import Cloud, Size
from nextmove.sim.missing import missing

Points = npt.NDArray[np.float32]
_TABLE = 0.003
"""Metres around the table's height in which points are the table's."""
_SLACK = 1e-4
"""Metres by which a workspace is wider where pixels are only left out early: far more than float32 rounds by."""


@dataclass(frozen=True)
class Eye:
    """How a depth image was taken.

    intrinsics: (3, 3), column and row of a pixel, counted from 0 at the centres, times depth, from the camera's x, y,
    z (right, down, into the scene). pose: (4, 4), from there to the world's metres.
    """

    intrinsics: npt.NDArray[np.float64]
    pose: npt.NDArray[np.float64]

    def same(self, other: Eye) -> bool:
        """Whether the other's images are taken in the same way."""
        return np.array_equal(self.intrinsics, other.intrinsics) and np.array_equal(self.pose, other.pose)


class Rays:
    """The pixels of one eye, and where along each the workspace may lie; made once for a camera that stays."""

    def __init__(self, eye: Eye, cloud: Cloud) -> None:
        """eye: how depth images of `cloud.size` are taken. cloud: the workspace."""
        self.eye, self.cloud = eye, cloud
        self._x, self._y = (np.broadcast_to(axis, cloud.size).ravel() for axis in _slopes(eye, cloud.size))
        self._near, self._far = _within(unproject(np.ones(cloud.size, np.float32), eye) - eye.pose[:3, 3], eye, cloud)

    def workspace(self, depth: npt.NDArray[np.float32]) -> Points:
        """(N, 3): those pixels of a depth image that lie in the workspace, as `workspace` has them of `unproject`."""
        flat = depth.ravel()
        found = np.flatnonzero((flat >= self._near) & (flat <= self._far))
        return workspace(_placed(self._x[found], self._y[found], flat[found], self.eye), self.cloud)

    def point_cloud(self, depth: npt.NDArray[np.float32], count: int) -> Points:
        """(count, 3) points of the workspace, metres of the world, evenly over what is seen of it.

        Zeros while nothing of it is seen, as where the hand has left it and what lay there has fallen off the table.
        """
        found = self.workspace(depth)
        if not len(found):
            return np.zeros((count, 3), np.float32)
        return np.ascontiguousarray(found[farthest(found, count)])


def unproject(depth: npt.NDArray[np.float32], eye: Eye) -> Points:
    """(H * W, 3): where in the world the pixels of a depth image (H, W), metres along the optical axis, are."""
    x, y = (np.broadcast_to(axis, depth.shape).ravel() for axis in _slopes(eye, depth.shape))
    return _placed(x, y, depth.ravel(), eye)


def _slopes(eye: Eye, size: Size) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How far to the right (1, W) and down (H, 1) a pixel is at one metre of depth."""
    right = (np.arange(size[1]) - eye.intrinsics[0, 2]) / eye.intrinsics[0, 0]
    down = (np.arange(size[0]) - eye.intrinsics[1, 2]) / eye.intrinsics[1, 1]
    return right[None], down[:, None]


def _placed(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], depth: npt.NDArray[np.float32], eye: Eye) -> Points:
    """(N, 3): pixels of these slopes and depths in the world; a pixel's place does not depend on those beside it."""
    metres = depth.astype(np.float64)
    seen = np.stack([x * metres, y * metres, metres], -1)
    return (seen @ eye.pose[:3, :3].T + eye.pose[:3, 3]).astype(np.float32)


def _within(rays: npt.NDArray[np.float64], eye: Eye, cloud: Cloud) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Depths (N,) at which rays (N, 3), world's metres by metre of depth, may be in the workspace: from, to.

    A little wider than the workspace, since `workspace` has the last word.
    """
    low, high = np.array(cloud.low) - _SLACK, np.array(cloud.high) + _SLACK
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (low - eye.pose[:3, 3]) / rays, (high - eye.pose[:3, 3]) / rays
    near, far = np.fmin(*ends).max(1), np.fmax(*ends).min(1)
    return near.astype(np.float32), far.astype(np.float32)


def workspace(points: Points, cloud: Cloud) -> Points:
    """Those of the points (N, 3) that lie between the corners and not on the table."""
    inside = ((points >= np.array(cloud.low, np.float32)) & (points <= np.array(cloud.high, np.float32))).all(1)
    return points[inside & (np.abs(points[:, 2] - np.float32(cloud.plane)) > _TABLE)]


def farthest(points: Points, count: int) -> npt.NDArray[np.int64]:
    """Numbers (count,) of the points (N, 3) chosen one by one, each farthest from those before (Eldar et al. 1997).

    The first is the one farthest from the mean; of several at one distance the first in order. Where there are fewer
    than `count`, all are chosen and then again from the beginning. The same on every machine (`sim._farthest`).

    Raises SimulatorError where numba is not installed.
    """
    try:
        from nextmove.sim._farthest import spread
    except ImportError as problem:
        raise missing("points", "numba", problem, "pip install numba") from problem
    columns = np.ascontiguousarray(points.T)
    apart = np.square(columns - points.astype(np.float64).mean(0).astype(np.float32)[:, None])
    first = int((apart[0] + apart[1] + apart[2]).argmax())
    chosen: npt.NDArray[np.int64] = spread(columns[0], columns[1], columns[2], first, min(count, len(points)))
    return np.resize(chosen, count)
