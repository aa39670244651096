"""The point-cloud encoder of 3D Diffusion Policy (Ze et al. 2024), which FlowPolicy shares.

Shapes: B batch, P points, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from nextmove.nn.product import Linear


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
                layers += [nn.LayerNorm(out), nn.ReLU()]
        self.channels = widths[0]
        self.mlp = nn.Sequential(*layers)
        self.projection = nn.Sequential(Linear(widths[-1], config.out), nn.LayerNorm(config.out))

    def forward(self, points: Tensor) -> Tensor:
        """(..., P, 3 or 6) -> (..., F); without `color` only the first three, the place, are read."""
        y: Tensor = self.projection(self.mlp(points[..., : self.channels]).amax(-2))
        return y


@dataclass(frozen=True)
class Points3d:
    """Sizes of the point encoder."""

    out: int = 64
    color: bool = False

    def build(self) -> nn.Module:
        """The network."""
        return PointNet(self)
