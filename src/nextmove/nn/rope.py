"""Rotary positions: queries and keys are turned by an angle that grows with their position (Su et al. 2021, eq. 34).

Letters: L positions, W width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stretch:
    """Slower turns, for sequences `factor` times longer than those trained on (Llama 3.1; Grattafiori et al. 2024).

    A pair that turns fewer than `low` times over the trained positions is slowed by `factor`, one that turns more than
    `high` times is left, and between them the share goes linearly. Raises ValueError unless low < high.
    """

    factor: float
    trained: int = 0
    """Positions of a sequence in the first training; 0 slows all pairs alike (Chen et al. 2023)."""
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"stretch.low: expected less than high ({self.high}), found {self.low}")

    def slowed(self, speeds: Tensor) -> Tensor:
        """Radians a position (W / 2,), stretched."""
        turns = self.trained * speeds / (2 * math.pi)
        left = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return torch.lerp(speeds / self.factor, speeds, left)


@dataclass(frozen=True)
class Rotary:
    """How fast the pairs of a head turn."""

    base: float = 10000.0
    stretch: Stretch | None = None

    def angles(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (..., L, W / 2) of positions (..., L), as `rotary`."""
        return rotary(positions, width, self.base, self.stretch)


def rotary(
    positions: Tensor, width: int, base: float = 10000.0, stretch: Stretch | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., L, W / 2) float32 of the angles position / base^(2 j / W), positions (..., L).

    Positions (B, L) count each row on its own. Raises ValueError if `width` (of one head) is odd.
    """
    if width % 2:
        raise ValueError(f"width: expected an even width of a head for rotary positions, found {width}")
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    speeds = base**-powers
    angles = positions.float()[..., None] * (speeds if stretch is None else stretch.slowed(speeds))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x (B, heads, L, W) with the pair (x_j, x_{j + W / 2}) turned by angle j; keeps dtype and length.

    cosines, sines: (L, W / 2), or (B, L, W / 2) by row.
    """
    if cosines.dim() == 3:
        cosines, sines = cosines[:, None], sines[:, None]
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1).to(x.dtype)
