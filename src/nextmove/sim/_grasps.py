"""Where a parallel gripper that points down can take hold of something: found on points of the surfaces around it.

A grasp is judged in the gripper's own frame: x across the fingers, y along which they close, z up, from the point
between the fingertips. Lengths in metres, angles in radians. Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The Panda's gripper, open: fingers from 39 to 65 mm on either side, 10 mm below the point between the tips; the palm
# 30 mm above it, 21 cm wide along y and 7 cm along x.
_FINGER_X, _FINGER_Y, _FINGER_Z = (-0.012, 0.015), (0.037, 0.067), -0.011
_PALM_X, _PALM_Y, _PALM_Z = (-0.032, 0.042), 0.107, 0.029
_PAD_X, _PAD_Z = 0.009, (-0.005, 0.012)
_OPENING = 0.072
"""Widest thing that is taken hold of."""
_GAP = 0.03
"""Between points along y, in which a finger has room."""
_SPACING = 0.007
"""Of points on surfaces; less than any part of the gripper is thick."""


@dataclass(frozen=True)
class Grasp:
    """The point between the fingertips (3,) and how far the gripper is turned about z from closing along y."""

    point: Floats
    yaw: float
    cost: float


def turned(yaw: float) -> Floats:
    """The rotation (3, 3) about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def surface(model: Any, data: Any, bodies: Collection[int]) -> Floats:
    """Points (P, 3) on the boxes of MuJoCo's that are in the way of others and belong to `bodies` or parts of them."""
    owner = np.arange(model.nbody)
    for body in range(1, model.nbody):  # parents come first
        if body not in bodies:
            owner[body] = owner[model.body_parentid[body]]
    solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    found = [np.zeros((0, 3))]
    for geom in np.flatnonzero(solid & np.isin(owner[model.geom_bodyid], list(bodies))):
        points = _box(model.geom_size[geom])
        found.append(points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(found)


def _box(half: Floats) -> Floats:
    """Points on the six faces of a box of these half sizes (3,)."""
    axes = [np.linspace(-h, h, max(int(np.ceil(2 * h / _SPACING)) + 1, 2)) for h in half]
    faces = []
    for axis in range(3):
        sides: list[Floats] = list(axes)
        sides[axis] = np.array([-half[axis], half[axis]])
        faces.append(np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3))
    return np.concatenate(faces)


def best(target: Floats, others: Floats, yaws: Floats) -> Grasp | None:
    """The grasp of `target` (P, 3) among these yaws that is best centred and least turned, free of `others` (P, 3).

    None where the gripper fits nowhere.
    """
    low, high = target[:, 2].min(), target[:, 2].max()
    middle = np.array([*(target[:, :2].min(0) + target[:, :2].max(0)) / 2, 0.0])
    near = others[np.linalg.norm(others[:, :2] - middle[:2], axis=1) < 0.25]
    found: list[Grasp] = []
    for z in (high - 0.027, high - 0.018, high - 0.01):
        z = max(z, low + 0.012)
        for yaw in yaws:
            frame, point = turned(yaw), middle + np.array([0, 0, z])
            own, rest = (target - point) @ frame, (near - point) @ frame
            found += [
                Grasp(point + frame @ [x, y, 0], float(yaw), cost)
                for x, y, width in _places(own)
                if (cost := _cost(own - [x, y, 0], rest - [x, y, 0], width, yaw, [x, y])) is not None
            ]
        if found:
            return min(found, key=lambda grasp: grasp.cost)
    return None


def _places(own: Floats) -> list[tuple[float, float, float]]:
    """x, y and width of what would be between the pads, for places across the target (P, 3) in the gripper's frame."""
    band = own[(own[:, 2] > _PAD_Z[0]) & (own[:, 2] < _PAD_Z[1])]
    found = []
    for x in np.arange(-0.03, 0.031, 0.005):
        y = np.sort(band[np.abs(band[:, 0] - x) < _PAD_X, 1])
        if not len(y):
            continue
        parts = np.split(y, np.flatnonzero(np.diff(y) > _GAP) + 1)
        for part in [y, *parts] if len(parts) > 1 else parts:  # all of it, or one wall of what is hollow
            found.append((float(x), float(part[0] + part[-1]) / 2, float(part[-1] - part[0])))
    return found


def _cost(own: Floats, rest: Floats, width: float, yaw: float, offset: list[float]) -> float | None:
    """What a grasp costs, in metres, with everything seen from it; None where the gripper would hit something."""
    if width > _OPENING:
        return None
    everything = np.concatenate([own, rest])
    x, y, z = everything[:, 0], np.abs(everything[:, 1]), everything[:, 2]
    fingers = (x > _FINGER_X[0]) & (x < _FINGER_X[1]) & (y > _FINGER_Y[0]) & (y < _FINGER_Y[1]) & (z > _FINGER_Z)
    palm = (x > _PALM_X[0]) & (x < _PALM_X[1]) & (y < _PALM_Y) & (z > _PALM_Z)
    if (fingers | palm).any():
        return None
    return float(2 * width + 3 * abs(offset[0]) + abs(offset[1]) + 0.03 * abs(yaw))
