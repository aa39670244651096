"""Views of states: as they are, or as points relative to the robot and to their goals.

Shapes: B batch, T observation steps, W width of what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nextmove.geometry import along, heading


@dataclass(frozen=True)
class Plain:
    """Every observed state feature as it is, side by side in file order."""

    def width(self, features: Mapping[str, int]) -> int:
        """Columns shown."""
        return sum(features.values())

    def show(self, obs: Mapping[str, Tensor], features: Mapping[str, int]) -> Tensor:
        """(B, T, W) in raw units."""
        return torch.cat([obs[name] for name in features], -1)

    def size(self, obs: Mapping[str, Tensor], features: Mapping[str, int]) -> Tensor:
        """Largest magnitude of the numbers that columns are computed from, () or (W,); 0: of the columns themselves."""
        return torch.zeros(())


@dataclass(frozen=True)
class Points:
    """Points relative to the robot and to their goals, at a far and a near scale, with one-step velocities.

    For pushing and placing tasks: errors of a hundred units and of one unit are both visible, and nothing depends on
    an angle's wrap. Every feature holds x, y (or x, y, z) per point. In the object's frame (in the plane) directions
    are relative to the points' own heading at each step: what was learnt at one side holds at all sides.
    """

    points: str = "observation.environment_state"
    reference: str = "observation.state"
    """Position of the robot, in the frame of the points."""
    goal: str = "observation.goal"
    """The goal of each point."""
    near_scale: float = 10.0
    """Errors up to about this size (units of the points) are shown magnified."""
    frame: Literal["world", "object"] = "world"

    def width(self, features: Mapping[str, int]) -> int:
        """Columns shown."""
        return 2 * features[self.reference] + 4 * features[self.points]

    def show(self, obs: Mapping[str, Tensor], features: Mapping[str, int]) -> Tensor:
        """(B, T, W) in raw units; velocities are changes since the previous step, 0 at the first."""
        points, reference = obs[self.points], obs[self.reference]
        error = points - obs[self.goal]
        seen = points - reference.repeat(1, 1, points.shape[-1] // reference.shape[-1])
        where = torch.cat([reference, points], -1)
        change = torch.cat([torch.zeros_like(where[:, :1]), where[:, 1:] - where[:, :-1]], 1)
        if self.frame == "object":
            ahead = heading(points)
            seen, error, change = along(seen, ahead), along(error, ahead), along(change, ahead)
        return torch.cat([reference, seen, error, torch.tanh(error / self.near_scale), change], -1)

    def size(self, obs: Mapping[str, Tensor], features: Mapping[str, int]) -> Tensor:
        """Largest magnitude of the numbers that columns are computed from, (W,)."""
        robot, points = features[self.reference], features[self.points]
        largest = torch.stack([obs[name].abs().max() for name in (self.points, self.reference, self.goal)]).max()
        widths = torch.tensor([robot + 2 * points, points, robot + points])
        return torch.stack([largest, largest / self.near_scale, largest]).repeat_interleave(widths)
