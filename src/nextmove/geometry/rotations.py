"""Rotations of space as matrices and as the numbers that data and networks hold.

| kind | numbers |
| --- | --- |
| `6d` | the matrix's first two columns, one after the other (Zhou et al. 2019) |
| `6d_rows` | its first two rows, one after the other (PyTorch3D, GR00T) |
| `quaternion_xyzw` | a unit quaternion, real part last (ROS, SciPy, MuJoCo's tools) |
| `quaternion_wxyz` | the same, real part first (MuJoCo, Meta-World) |
| `axis_angle` | the axis times the angle in radians |

Every matrix is written in one way: quaternions with a real part of at least 0, angles from 0 to pi. So numbers come
back as they were where they were written so, and otherwise as those of the same rotation.

Shapes: W numbers of a kind.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Rotation = Literal["6d", "6d_rows", "quaternion_xyzw", "quaternion_wxyz", "axis_angle"]
KINDS: dict[str, int] = {"6d": 6, "6d_rows": 6, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "axis_angle": 3}
"""The kinds and how many numbers each takes."""
_TINY = 1e-12


def to_matrix(x: Tensor, kind: Rotation) -> Tensor:
    """Rotation matrices (..., 3, 3) of numbers (..., W); those that are no rotation give the one beside them.

    Quaternions are brought to length 1, of 6-D numbers the first vector keeps its direction (Gram-Schmidt).
    """
    if x.shape[-1] != KINDS[kind]:
        raise ValueError(f"rotation: expected the {KINDS[kind]} numbers of {kind}, found {x.shape[-1]}")
    if kind in ("6d", "6d_rows"):
        found = _orthogonal(x[..., :3], x[..., 3:])
        return found if kind == "6d_rows" else found.mT
    if kind == "axis_angle":
        angle = x.norm(dim=-1, keepdim=True)
        # sin(angle / 2) / angle, which is 1 / 2 at 0.
        return _of_quaternion(torch.cat([x * torch.sinc(angle / (2 * torch.pi)) / 2, torch.cos(angle / 2)], -1))
    return _of_quaternion(x if kind == "quaternion_xyzw" else x.roll(-1, -1))


def to_numbers(matrix: Tensor, kind: Rotation) -> Tensor:
    """Numbers (..., W) of rotation matrices (..., 3, 3)."""
    if kind in ("6d", "6d_rows"):
        return (matrix if kind == "6d_rows" else matrix.mT)[..., :2, :].flatten(-2)
    quaternion = _quaternion(matrix)
    if kind == "axis_angle":
        axis, real = quaternion[..., :3], quaternion[..., 3:]
        length = axis.norm(dim=-1, keepdim=True)
        angle = 2 * torch.atan2(length, real)
        return axis * torch.where(length > _TINY, angle / length.clamp_min(_TINY), 2.0)
    return quaternion if kind == "quaternion_xyzw" else quaternion.roll(1, -1)


def _orthogonal(first: Tensor, second: Tensor) -> Tensor:
    """(..., 3, 3) whose first row is along `first`, the second in its plane with `second`."""
    x = torch.nn.functional.normalize(first, dim=-1, eps=_TINY)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=_TINY)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -2)


def _of_quaternion(q: Tensor) -> Tensor:
    """(..., 3, 3) of quaternions x, y, z, w of any length but 0."""
    x, y, z, w = torch.nn.functional.normalize(q, dim=-1, eps=_TINY).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*q.shape[:-1], 3, 3)


def _quaternion(matrix: Tensor) -> Tensor:
    """x, y, z, w with w at least 0; computed from its largest number, which loses no digits (Shepperd 1978)."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    # Row i is 4 q_i times the quaternion.
    rows = [
        1 + xx - yy - zz, xy, xz, xw,
        xy, 1 - xx + yy - zz, yz, yw,
        xz, yz, 1 - xx - yy + zz, zw,
        xw, yw, zw, 1 + xx + yy + zz,
    ]  # fmt: skip
    table = torch.stack(rows, -1).reshape(*m.shape[:-2], 4, 4)
    largest = table.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    q = torch.nn.functional.normalize(table.gather(-2, largest)[..., 0, :], dim=-1, eps=_TINY)
    return torch.where(q[..., 3:] < 0, -q, q)
