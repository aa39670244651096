"""Turns of the plane: the heading of a set of points, and vectors as seen along it.

Shapes: P points.
"""

from __future__ import annotations

import torch
from torch import Tensor


def heading(points: Tensor) -> Tensor:
    """(..., 2) unit vector from the middle of points (..., 2 P) in x, y order to the first; (1, 0) if all are one.

    All are one where the vector is no more than the rounding of the points' own numbers.
    """
    xy = points.reshape(*points.shape[:-1], -1, 2)
    ahead = xy[..., 0, :] - xy.mean(-2)
    length = ahead.norm(dim=-1, keepdim=True)
    east = torch.zeros_like(ahead)
    east[..., 0] = 1
    apart = length > 4 * torch.finfo(points.dtype).eps * points.abs().amax(-1, keepdim=True)
    return torch.where(apart, ahead / torch.where(apart, length, 1), east)


def along(vectors: Tensor, ahead: Tensor) -> Tensor:
    """Vectors (..., 2 P) as seen with the x axis turned to `ahead` (..., 2)."""
    return _turn(vectors, ahead[..., 0], -ahead[..., 1])


def back(vectors: Tensor, ahead: Tensor) -> Tensor:
    """Undoes `along`."""
    return _turn(vectors, ahead[..., 0], ahead[..., 1])


def _turn(vectors: Tensor, c: Tensor, s: Tensor) -> Tensor:
    x, y = vectors.reshape(*vectors.shape[:-1], -1, 2).unbind(-1)
    c, s = c[..., None], s[..., None]
    return torch.stack([c * x - s * y, s * x + c * y], -1).flatten(-2)
