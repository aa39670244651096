"""Rotary positions: queries and keys are rotated by an angle that grows with their position (Su et al. 2021, eq. 34).

Shapes: L positions, W width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RopeScaling:
    """Lower frequencies, for sequences `factor` times longer than in training (Llama 3.1; Grattafiori et al. 2024).

    The frequency of a pair that rotates fewer than `low_freq` times over the original length is divided by `factor`,
    that of one that rotates more than `high_freq` times stays, and between them the share goes linearly. Raises
    ValueError unless low_freq < high_freq.
    """

    factor: float
    original_length: int = 0
    """Positions of a sequence in the first training; 0 divides all frequencies (Chen et al. 2023)."""
    low_freq: float = 1.0
    high_freq: float = 4.0

    def __post_init__(self) -> None:
        if not self.low_freq < self.high_freq:
            raise ValueError(
                f"scaling.low_freq: expected less than high_freq ({self.high_freq}), found {self.low_freq}"
            )

    def scaled(self, inv_freq: Tensor) -> Tensor:
        """Radians a position (W / 2,), scaled."""
        turns = self.original_length * inv_freq / (2 * math.pi)
        left = ((turns - self.low_freq) / (self.high_freq - self.low_freq)).clamp(0, 1)
        return torch.lerp(inv_freq / self.factor, inv_freq, left)


@dataclass(frozen=True)
class Rotary:
    """How fast the pairs of a head rotate."""

    base: float = 10000.0
    scaling: RopeScaling | None = None

    def angles(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (..., L, W / 2) of positions (..., L), as `rotary`."""
        return rotary(positions, width, self.base, self.scaling)


def rotary(
    positions: Tensor, width: int, base: float = 10000.0, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., L, W / 2) float32 of the angles position / base^(2 j / W), positions (..., L).

    Positions (B, L) count each row on its own. Raises ValueError if `width` (of one head) is odd.
    """
    if width % 2:
        raise ValueError(f"width: expected an even width of a head for rotary positions, found {width}")
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    inv_freq = base**-powers
    angles = positions.float()[..., None] * (inv_freq if scaling is None else scaling.scaled(inv_freq))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x (B, heads, L, W) with the pair (x_j, x_{j + W / 2}) rotated by angle j; keeps dtype and length.

    cosines, sines: (L, W / 2), or (B, L, W / 2) by row.
    """
    if cosines.dim() == 3:
        cosines, sines = cosines[:, None], sines[:, None]
    a, b = x.float().chunk(2, -1)
    if torch.compiler.is_compiling():
        # Of the form below, kept and read again, OpenVINO 2026.4 reads beyond the end of the halved tables.
        cosines, sines = torch.cat([cosines, cosines], -1), torch.cat([sines, sines], -1)
        return (x.float() * cosines + torch.cat([-b, a], -1) * sines).to(x.dtype)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1).to(x.dtype)
