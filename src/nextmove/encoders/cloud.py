"""Point clouds to features, one vector a step.

Shapes: B batch, T observation steps, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.scaled import Mode, Scaled
from nextmove.contracts import Feature, Numbers, Rng, uniform
from nextmove.encoders.part import chosen, present
from nextmove.nn.pointnet import Points3d


@dataclass(frozen=True)
class Cloud:
    """Which point clouds are read, and by what network (3D Diffusion Policy, Ze et al. 2024)."""

    features: tuple[str, ...] = ()
    """Names; none: all point clouds in file order."""
    network: Points3d = Points3d()
    """Each cloud has one of its own."""
    scaling: Mode = "min_max"

    def build(self, inputs: Mapping[str, Feature]) -> CloudEncoder:
        """The part; raises ValueError naming a cloud that is absent or has no colours where they are read."""
        found = chosen(inputs, self.features, "points", "cloud")
        channels = 6 if self.network.color else 3
        for name, feature in found.items():
            if feature.width < channels:
                raise ValueError(f"cloud: {name}: expected points of width {channels}, found {feature.width}")
        return CloudEncoder(self, found)


class CloudEncoder(nn.Module):
    """Point clouds (B, T, P, 3 or more) by name -> (B, steps, W); colours that are not read are dropped."""

    def __init__(self, config: Cloud, features: Mapping[str, Feature]) -> None:
        super().__init__()
        self.inputs, self.channels = dict(features), 6 if config.network.color else 3
        self.scales = nn.ModuleList(Scaled(self.channels, mode=config.scaling, name=name) for name in features)
        self.networks = nn.ModuleList(config.network.build() for _ in features)
        self.out = config.network.out
        self.width = self.out * len(features)

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Fits each cloud's scale on the points of all training windows."""
        for name, scale in zip(self.inputs, self.scales, strict=True):

            def parts(name: str = name) -> Any:
                for part in numbers.parts():
                    yield part[name][:, -steps:, :, : self.channels].flatten(0, 2).numpy(), 0.0

            scale.fit_parts(parts)  # type: ignore[operator]

    def unseen(self, name: str, points: Tensor, rng: Rng) -> Tensor:
        """Points (B, T, P, W) that say nothing, as many as `points`: anywhere alike in the room that clouds fill.

        That is the range they were fitted in, or of the same spread where mean and spread were, so that the network
        reads numbers of the size it knows. Colours that are read are noise too.
        """
        scale: Any = self.scales[list(self.inputs).index(name)]
        reach = 3**0.5 if scale.mode == "mean_std" else 1.0
        x = reach * (2 * uniform((*points.shape[:-1], self.channels), rng) - 1)
        decoded: Tensor = scale.decode(x.to(points))
        return decoded

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W). Raises ValueError naming a cloud that is absent or too narrow."""
        there, found = present(inputs, self.inputs), []
        for name, scale, network in zip(self.inputs, self.scales, self.networks, strict=True):
            if name not in there:
                found.append(next(network.parameters()).new_zeros(batch, steps, self.out))
                continue
            if inputs[name].shape[-1] < self.channels:
                raise ValueError(f"{name}: expected width {self.channels}, found {inputs[name].shape[-1]}")
            found.append(network(scale.encode(inputs[name][:, -steps:, :, : self.channels])))  # type: ignore[operator]
        return torch.cat(found, -1)
