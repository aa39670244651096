"""Norms that a network can be given: with a mean taken out, or by size alone.

Shapes: D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps), times a gain, plus a bias (Ba et al. 2016)."""

    eps: float = 1e-5
    bias: bool = True
    gain: bool = True
    """Without it there is no bias either."""

    def build(self, width: int) -> nn.Module:
        """The module (..., D) -> (..., D)."""
        return nn.LayerNorm(width, self.eps, bias=self.bias) if self.gain else Centred(width, self.eps)


@dataclass(frozen=True)
class RmsNorm:
    """x / sqrt(mean of x^2 + eps), times a gain (Zhang and Sennrich 2019)."""

    eps: float = 1e-5
    gain: bool = True
    offset: float = 0.0
    """What is added to the stored gain; Gemma stores the gain less 1."""

    def build(self, width: int) -> nn.Module:
        """The module (..., D) -> (..., D)."""
        return RMSNorm(width, self)


class Centred(nn.Module):
    """The mean taken out and the deviation divided out."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = (width,), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x, self.width, None, None, self.eps)


class RMSNorm(nn.Module):
    """The root mean square divided out, times offset + weight."""

    def __init__(self, width: int, config: RmsNorm) -> None:
        super().__init__()
        self.width, self.eps, self.offset = (width,), config.eps, config.offset
        self.weight = nn.Parameter(torch.full(self.width, 1 - config.offset)) if config.gain else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if self.weight is None:
            return F.rms_norm(x, self.width, None, self.eps)
        if self.offset:
            # 1 + w does not fit into the few digits of a narrow dtype; the product is rounded once (Gemma).
            wide = torch.promote_types(x.dtype, torch.float32)
            return F.rms_norm(x.to(wide), self.width, self.weight.to(wide) + self.offset, self.eps).to(x.dtype)
        # Under autocast x may be narrower than the gain.
        return F.rms_norm(x, self.width, self.weight.to(x.dtype), self.eps)
