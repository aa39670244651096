"""Poses inside action windows: rotations in the numbers that a network finds easy, seen from another pose.

Shapes: A numbers of an action or of the state it starts from, M numbers of what a decoder sees of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nextmove.geometry import KINDS, Rotation, to_matrix, to_numbers


@dataclass(frozen=True)
class Pose:
    """A rotation at `rotation`, the first of its columns, and the position that goes with it at `position`, if any."""

    kind: Rotation
    """How the data write it."""
    rotation: int
    position: int | None = None
    shown: Rotation = "6d"
    """How decoders see it."""

    @property
    def turned(self) -> range:
        """Columns of the rotation."""
        return range(self.rotation, self.rotation + KINDS[self.kind])

    @property
    def moved(self) -> range:
        """Columns of the position; none without one."""
        return range(0) if self.position is None else range(self.position, self.position + 3)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The rotation as a matrix (..., 3, 3) and the position (..., 3) of x (..., A)."""
        turn = to_matrix(x[..., self.turned.start : self.turned.stop], self.kind)
        return turn, None if self.position is None else x[..., self.position : self.position + 3]


def seen_from(turn: Tensor, place: Tensor | None, own: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A pose as seen from the pose `own`, `at`: its inverse times the pose (SE(3), as in UMI, Chi et al. 2024)."""
    there = None if place is None or at is None else ((place - at)[..., None, :] @ own)[..., 0, :]
    return own.mT @ turn, there


def put_back(turn: Tensor, place: Tensor | None, own: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Undoes `seen_from`."""
    there = None if place is None or at is None else (place[..., None, :] @ own.mT)[..., 0, :] + at
    return own @ turn, there


def splice(x: Tensor, found: list[tuple[range, Tensor]]) -> Tensor:
    """x (..., A) with columns exchanged for others, which may be more or fewer."""
    if not found:
        return x
    pieces, done = [], 0
    for columns, values in sorted(found, key=lambda part: part[0].start):
        pieces += [x[..., done : columns.start], values]
        done = columns.stop
    return torch.cat([*pieces, x[..., done:]], -1)


def written(pose: Pose, turn: Tensor, place: Tensor | None, kind: Rotation) -> list[tuple[range, Tensor]]:
    """Columns of the data and what takes their place: the rotation in numbers of `kind`, and the position."""
    found = [(pose.turned, to_numbers(turn, kind))]
    return found if place is None else [*found, (pose.moved, place)]
