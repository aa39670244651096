"""The point-cloud encoder of 3D Diffusion Policy (Ze et al. 2024), which FlowPolicy shares.

Shapes: B batch, P points, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from nextmove.nn.product import Linear

TOGETHER = 8
"""Clouds computed together: what lies between their layers stays in the processor's cache (2.4 times as fast)."""


class PointNet(nn.Module):
    """(..., P, 3 or 6) points -> (..., F): an MLP on each, the maximum over points, a projection with LayerNorm."""

    def __init__(self, config: Points3d) -> None:
        super().__init__()
        widths = (6, 64, 128, 256, 512) if config.color else (3, 64, 128, 256)
        layers: list[nn.Module] = []
        for i, (inputs, out) in enumerate(pairwise(widths)):
            layers.append(Linear(inputs, out))
            # With colour the last layer is bare.
            if not (config.color and i == len(widths) - 2):
                layers += [nn.LayerNorm(out), nn.ReLU(inplace=True)]
        self.channels = widths[0]
        self.mlp = nn.Sequential(*layers)
        self.projection = nn.Sequential(Linear(widths[-1], config.out), nn.LayerNorm(config.out))

    def forward(self, points: Tensor) -> Tensor:
        """(..., P, 3 or 6) -> (..., F); without `color` only the first three, the place, are read."""
        points = points[..., : self.channels]
        if torch.compiler.is_compiling():
            return self._projected(self.mlp(points).amax(-2))
        clouds = points.reshape(-1, *points.shape[-2:])
        found = torch.cat([self._maximum(part) for part in torch.split(clouds, TOGETHER)])
        return self._projected(found.reshape(*points.shape[:-2], -1))

    def _projected(self, found: Tensor) -> Tensor:
        y: Tensor = self.projection(found)
        return y

    def _maximum(self, points: Tensor) -> Tensor:
        """The maximum of each feature over the points (B, P, C), (B, W)."""
        if torch.is_grad_enabled() and not points.requires_grad:
            points = self._reached(points)
        y: Tensor = self.mlp(points).amax(-2)
        return y

    @torch.no_grad()
    def _reached(self, points: Tensor) -> Tensor:
        """Those of the points (..., P, C) that have the maximum of a feature, (..., K, C) with the most of any cloud.

        The others have no gradient: a third of the work finds who they are, and the rest is saved. Clouds with fewer
        take along some that change nothing.
        """
        best = self.mlp(points).max(-2).indices
        taken = points.new_zeros(points.shape[:-1]).scatter_(-1, best, 1.0)
        most = int(taken.sum(-1).max())
        place = taken.topk(most, -1, sorted=False).indices
        return points.gather(-2, place[..., None].expand(*place.shape, points.shape[-1]))


@dataclass(frozen=True)
class Points3d:
    """Sizes of the point encoder."""

    out: int = 64
    color: bool = False

    def build(self) -> nn.Module:
        """The network."""
        return PointNet(self)
