"""The linear path from noise N(0, 1) to data N(.7, .5^2): everything about it is known."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN, SD = 0.7, 0.5


def spread(t: Tensor) -> Tensor:
    """Standard deviation of x_t."""
    return (t**2 * SD**2 + (1 - t) ** 2).sqrt()


def move(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Where the flow carries x from time t to time s."""
    return s * MEAN + spread(s) / spread(t) * (x - t * MEAN)


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt of the flow, which is E[data - noise | x_t = x]."""
    return MEAN + (t * SD**2 - (1 - t)) / spread(t) ** 2 * (x - t * MEAN)


def data_given(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the data point given x_t = x."""
    return MEAN + t * SD**2 / spread(t) ** 2 * (x - t * MEAN), (1 - t) * SD / spread(t)


def made(sampled: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of what an affine sampler makes of noise, from its samples at -1 and 1."""
    low, high = sampled.flatten().tolist()
    return (low + high) / 2, (high - low) / 2


def probe() -> Tensor:
    """Noise at -1 and 1, (2, 1, 1)."""
    return torch.tensor([-1.0, 1.0], dtype=torch.float64).view(2, 1, 1)
