"""ALiBi: a score falls with the distance of query and key, in each head at a fixed slope (Press et al. 2022).

Shapes: B batch, L queries, S keys, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alibi:
    """How steep the slopes are."""

    steepest: float = 8.0
    """The last slope of 2^n heads is 2^-steepest, all slopes are a geometric series."""

    def slopes(self, heads: int) -> Tensor:
        """(H,) float32 2^(-steepest i / n), i = 1 .. n, the n of the next power of two: of other numbers of heads every
        second one, then the ones between (Press et al. 2022, section 3)."""
        whole = 2 ** math.ceil(math.log2(heads))
        powers = torch.arange(1, whole + 1, dtype=torch.float32) * (-self.steepest / whole)
        if whole > heads:
            powers = torch.cat([powers[1::2], powers[::2]])[:heads]
        return powers.exp2()

    def bias(self, queries: Tensor, keys: Tensor, heads: int) -> Tensor:
        """(., H, L, S) float32, -slope times the distance, of positions (L,) and (S,), or (B, L) and (B, S)."""
        apart = (queries[..., :, None] - keys[..., None, :]).abs().float()
        apart = apart[None, None] if apart.dim() == 2 else apart[:, None]
        return apart * -self.slopes(heads).to(apart)[:, None, None]
