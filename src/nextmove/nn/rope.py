"""Rotary positions: queries and keys are turned by an angle that grows with their position (Su et al. 2021, eq. 34)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary(positions: Tensor, width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, width / 2) float32 of the angles position / base^(2 j / width), positions (L,).

    Raises ValueError if `width` (of one head) is odd.
    """
    if width % 2:
        raise ValueError(f"width: expected an even width of a head for rotary positions, found {width}")
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angles = positions.float()[:, None] * base**-powers
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x (B, heads, L, width) with the pair (x_j, x_{j + width / 2}) turned by angle j; keeps dtype and length."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1).to(x.dtype)
