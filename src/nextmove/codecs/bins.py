"""Actions as tokens: each dimension cut into equal bins, a chunk written as a row of bin numbers.

Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nextmove.codecs.counted import Counted
from nextmove.codecs.scaled import constant


class Bins(Counted):
    """Uniform bins over [low, high] of each dimension, by default 256 over [-1, 1] (Brohan et al. 2022, RT-1).

    Bin i covers [low + i w, low + (i + 1) w), w = (high - low) / bins, the last one its upper edge too; it is decoded
    to its centre, so an error inside the range is at most w / 2. Values outside are clamped to the end bins and
    counted. OpenVLA counts edges in place of bins: `edge_bins.EdgeBins`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, bins: int = 256, width: int = 1, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(bins=bins, width=width, low=low, high=high)
        self.register_buffer("low", torch.full((width,), low))
        self.register_buffer("high", torch.full((width,), high))

    def fit(self, values: Tensor, *, margin: float = 0.0) -> None:
        """Sets low and high to the smallest and largest of `values` (N, A), widened by `margin` of their distance.

        A dimension that is `constant` keeps its value alone, which all of its bins are decoded as. Raises ValueError
        for values not finite.
        """
        values = torch.as_tensor(values, dtype=torch.float32)
        self.check(values)
        low, high = values.flatten(0, -2).aminmax(dim=0)
        spread = high - low
        flat = torch.from_numpy(constant(low.numpy(), high.numpy()))
        value = low + spread / 2
        self.low.copy_(torch.where(flat, value, low - margin * spread))
        self.high.copy_(torch.where(flat, value, high + margin * spread))

    def encode(self, raw: Tensor) -> Tensor:
        """Values (B, H, A) to ids (B, H A) int64 in [0, bins), step by step; values outside are clamped and counted."""
        self.check(raw)
        self.count(raw, self.low, self.high)
        width = self.high - self.low
        # The one value of a constant dimension lies in the middle bin.
        place = torch.where(width > 0, (raw - self.low) / width, 0.5) * self.bins
        return place.floor().long().clamp(0, self.bins - 1).flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, H A) to the centres of their bins, (B, H, A); raises ValueError for an id that is no bin."""
        place = (self.by_step(x).to(self.low) + 0.5) / self.bins
        return torch.lerp(self.low, self.high, place)
