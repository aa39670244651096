"""Images as ids in raster order, or as numbers in [-1, 1].

Shapes: B batch, C channels, L = height width C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextmove.contracts import Rng, uniform


class Pixels(nn.Module):
    """Images (B, C, height, width) in [0, 1] as ids (B, L): row by row, pixel by pixel, channel by channel."""

    def __init__(self, *, height: int, width: int, channels: int, levels: int) -> None:
        super().__init__()
        self.height, self.width, self.channels, self.levels = height, width, channels, levels

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return self.levels

    @property
    def length(self) -> int:
        """Ids of one image."""
        return self.height * self.width * self.channels

    def encode(self, raw: Tensor, rng: Rng | None = None) -> Tensor:
        """Values near k / (levels - 1) to ids k, int64; raises ValueError for values outside [0, 1] or not finite."""
        return levels_of(raw, self.levels).permute(0, 2, 3, 1).flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, L) to images."""
        image = x.view(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)
        return image.to(torch.float32) / (self.levels - 1)


class Continuous(nn.Module):
    """Images (B, C, height, width) in [0, 1] as x in (-1, 1): level k covers the cell [2 k, 2 k + 2) / levels - 1.

    A level is its cell's centre, or with `rng` uniform in it, so that a density on x bounds the levels' likelihood:
    -log2 p(level) <= -log2 p(x) - log2(2 / levels) per value on average (Theis et al. 2016).
    """

    def __init__(self, *, levels: int) -> None:
        super().__init__()
        self.levels = levels

    end = 1.0
    """Largest magnitude of the data in model space."""

    @property
    def cell(self) -> float:
        """Width of a level."""
        return 2 / self.levels

    def encode(self, raw: Tensor, rng: Rng | None = None) -> Tensor:
        """Values near k / (levels - 1) to x; raises ValueError for values outside [0, 1] or not finite."""
        level = levels_of(raw, self.levels).to(raw.dtype)
        place = level + (0.5 if rng is None else uniform(raw.shape, rng, like=raw))
        return place * self.cell - 1

    def decode(self, x: Tensor) -> Tensor:
        """The level whose cell x is in, clipped to those there are, as k / (levels - 1)."""
        return ((x + 1) / self.cell).floor().clamp(0, self.levels - 1) / (self.levels - 1)


def levels_of(raw: Tensor, levels: int) -> Tensor:
    """The nearest level (int64) of values in [0, 1], the upper one of two as near; raises ValueError for others."""
    low, high = raw.aminmax()
    # NaN compares false.
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image: expected values in [0, 1], found {low:g} to {high:g}")
    return (raw * (levels - 1) + 0.5).floor().long()
