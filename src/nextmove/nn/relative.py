"""Positions that only a pair of tokens has: a learned number for how far apart they are, added to their score.

Shapes: L tokens, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Relative:
    """T5's buckets of distances (Raffel et al. 2020, section 2.1): exact when near, logarithmic up to `distance`."""

    buckets: int = 32
    """Of both directions together."""
    distance: int = 128
    """Tokens from which on all distances share a bucket."""

    def build(self, heads: int) -> RelativeBias:
        """The table; raises ValueError for an odd number of buckets or distances that end before the exact ones."""
        if self.buckets < 4 or self.buckets % 2 or self.distance <= self.buckets // 4:
            raise ValueError(
                "relative: expected an even number of at least 4 buckets and a distance over a quarter of it, "
                f"found {self.buckets} and {self.distance}"
            )
        return RelativeBias(self, heads)


class RelativeBias(nn.Module):
    """What is added to the scores of all heads, the same in every layer."""

    def __init__(self, config: Relative, heads: int) -> None:
        super().__init__()
        self.config, self.table = config, nn.Embedding(config.buckets, heads)

    def forward(self, length: int) -> Tensor:
        """(1, H, L, L): from query to key."""
        place = torch.arange(length, device=self.table.weight.device)
        found: Tensor = self.table(self._buckets(place[None] - place[:, None]))
        return found.permute(2, 0, 1)[None]

    def _buckets(self, apart: Tensor) -> Tensor:
        """Buckets of distances from query to key."""
        half = self.config.buckets // 2
        exact = half // 2
        far = apart.abs()
        share = torch.log(far.float() / exact) / math.log(self.config.distance / exact)
        large = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(far < exact, far, large) + half * (apart > 0)
