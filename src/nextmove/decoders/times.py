"""The laws by which training draws its times, as t from noise (0) to data (1).

A law is a sampling density: changing the law and also weighting the loss counts the same thing twice.
Every law draws exactly one number a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.contracts import Rng, normal, uniform
from nextmove.decoders.paths import DiscreteVP, Path


@dataclass(frozen=True)
class Uniform:
    """t uniform in [low, high)."""

    low: float = 0.0
    high: float = 1.0

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32."""
        return self.low + (self.high - self.low) * uniform((batch,), rng)


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(mean + std z) (Esser et al. 2024, eq. 19; SD3 uses 0 and 1). Their time runs the other way."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32."""
        return torch.sigmoid(self.mean + self.std * normal((batch,), rng))


@dataclass(frozen=True)
class Beta:
    """1 - t = floor + (1 - floor) Beta(power, 1): more weight on noisy times (pi0, Black et al. 2024)."""

    power: float = 1.5
    floor: float = 1e-3

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32."""
        return (1 - self.floor) * (1 - uniform((batch,), rng) ** (1 / self.power))


@dataclass(frozen=True)
class Mode:
    """1 - t = 1 - u - s (cos^2(pi u / 2) - 1 + u), u uniform: SD3's heavy-tailed law (Esser et al. 2024, eq. 20)."""

    scale: float = 1.29

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32."""
        u = uniform((batch,), rng)
        return u + self.scale * (torch.cos(u * (math.pi / 2)) ** 2 - 1 + u)


@dataclass(frozen=True)
class LogNormal:
    """log sigma ~ N(mean, std^2) with sigma = b / a (EDM, Karras et al. 2022, table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32 in [0, 1)."""
        # The largest float32 below 1 keeps sigma positive.
        return path.time_of(-(self.mean + self.std * normal((batch,), rng))).clamp(0, 1 - 2**-24)


@dataclass(frozen=True)
class Indexed:
    """The table's index uniform in 0 .. T - 1 (DDPM, Ho et al. 2020, algorithm 1)."""

    def draw(self, batch: int, rng: Rng, path: Path) -> Tensor:
        """Times (B,) float32, each exactly an index of the table."""
        if not isinstance(path, DiscreteVP):
            raise ConfigError(f"times: Indexed needs the path DiscreteVP, found {type(path).__name__}")
        index = (uniform((batch,), rng) * path.T).floor().clamp_max(path.T - 1)
        return 1 - (index + 1) / path.T


TimeLaw = Uniform | LogitNormal | Beta | Mode | LogNormal | Indexed
