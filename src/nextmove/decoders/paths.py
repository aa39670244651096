"""Paths x_t = a(t) x1 + b(t) e from noise e ~ N(0, I) at t = 0 to data x1 at t = 1.

Every path also has the `timestep` that a network reads: a sinusoid needs numbers of the order of hundreds, so
continuous times are scaled and a table gives its integer index.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from nextmove.config import ConfigError

N = TypeVar("N", float, Tensor)


@dataclass(frozen=True)
class Node(Generic[N]):
    """A path at one time (floats) or at many (tensors that broadcast to x): a, b, their derivatives, a^2 and b^2."""

    t: N
    a: N
    b: N
    da: N
    db: N
    a2: N
    b2: N
    timestep: N
    vp: bool = False

    @property
    def w(self) -> N:
        """The Wronskian a b' - a' b: -1 on the linear path, -pi/2 on the cosine path."""
        return self.a * self.db - self.da * self.b


class _Path(ABC):
    """What every path derives from its a, b, da, db."""

    vp: ClassVar[bool] = False
    """Whether a^2 + b^2 = 1."""
    number: ClassVar[Any] = np.float64
    """The precision in which solvers combine coefficients."""

    @abstractmethod
    def a(self, t: Tensor) -> Tensor:
        """The weight of the data at t in [0, 1]."""

    @abstractmethod
    def b(self, t: Tensor) -> Tensor:
        """The weight of the noise at t in [0, 1]."""

    @abstractmethod
    def da(self, t: Tensor) -> Tensor:
        """The derivative of a."""

    @abstractmethod
    def db(self, t: Tensor) -> Tensor:
        """The derivative of b."""

    @abstractmethod
    def timestep(self, t: Tensor) -> Tensor:
        """The number a network reads at t."""

    @abstractmethod
    def time_of(self, lam: Tensor) -> Tensor:
        """The time at which log(a / b) is `lam`."""

    def lam(self, t: Tensor) -> Tensor:
        """Half the log signal-to-noise ratio, log(a / b); -inf where a = 0 and inf where b = 0."""
        return torch.log(self.a(t)) - torch.log(self.b(t))

    def at(self, t: Tensor, like: Tensor) -> Node[Tensor]:
        """The path at times t (B,), shaped to broadcast from the left over `like` (B, ...)."""
        shape = (-1, *[1] * (like.dim() - 1))
        a, b, da, db = (f(t).to(like.dtype).reshape(shape) for f in (self.a, self.b, self.da, self.db))
        return Node(t, a, b, da, db, a * a, b * b, self.timestep(t), self.vp)

    def node(self, t: float) -> Node[float]:
        """The path at one time, in Python floats."""
        at = torch.tensor(t, dtype=torch.float64)
        a, b, da, db = (float(f(at)) for f in (self.a, self.b, self.da, self.db))
        return Node(t, a, b, da, db, a * a, b * b, float(self.timestep(at)), self.vp)


@dataclass(frozen=True)
class Linear(_Path):
    """a = t, b = 1 - t: flow matching and rectified flow (Lipman et al. 2023, eq. 22; Liu et al. 2023, eq. 1)."""

    time_scale: float = 1000.0
    reverse: bool = False
    """Whether the network is told 1 - t, of noise 1 and of data 0 (pi0's code, SmolVLA's)."""

    def a(self, t: Tensor) -> Tensor:
        return t

    def b(self, t: Tensor) -> Tensor:
        return 1 - t

    def da(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def db(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def timestep(self, t: Tensor) -> Tensor:
        return (1 - t if self.reverse else t) * self.time_scale

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(lam)


@dataclass(frozen=True)
class Cosine(_Path):
    """a = sin(pi t / 2), b = cos(pi t / 2): the trigonometric or GVP path (Albergo & Vanden-Eijnden 2023)."""

    time_scale: float = 1000.0
    vp: ClassVar[bool] = True

    def a(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def b(self, t: Tensor) -> Tensor:
        # sin of the complement is exactly 0 at t = 1, where cos(pi / 2) is not.
        return torch.sin((1 - t) * (math.pi / 2))

    def da(self, t: Tensor) -> Tensor:
        return self.b(t) * (math.pi / 2)

    def db(self, t: Tensor) -> Tensor:
        return self.a(t) * (-math.pi / 2)

    def timestep(self, t: Tensor) -> Tensor:
        return t * self.time_scale

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(lam)) * (2 / math.pi)


@dataclass(frozen=True)
class VP(_Path):
    """log a = -s^2 (beta1 - beta0) / 4 - s beta0 / 2 with s = 1 - t (Song et al. 2021, eq. 33).

    Its velocity diverges at t = 1: integrate it with DDIM or DPM-Solver++, or stop a velocity solver at t = 0.999, and
    train velocity targets on `Uniform(high=0.999)`.
    """

    beta0: float = 0.1
    beta1: float = 20.0
    time_scale: float = 1000.0
    vp: ClassVar[bool] = True

    def _log_a(self, t: Tensor) -> Tensor:
        s = 1 - t
        return -s * s * ((self.beta1 - self.beta0) / 4) - s * (self.beta0 / 2)

    def a(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_a(t))

    def b(self, t: Tensor) -> Tensor:
        # 1 - a^2 without cancellation near the data.
        return torch.sqrt(-torch.expm1(2 * self._log_a(t)))

    def da(self, t: Tensor) -> Tensor:
        return self.a(t) * ((1 - t) * ((self.beta1 - self.beta0) / 2) + self.beta0 / 2)

    def db(self, t: Tensor) -> Tensor:
        return -self.a(t) * self.da(t) / self.b(t)

    def timestep(self, t: Tensor) -> Tensor:
        return t * self.time_scale

    def time_of(self, lam: Tensor) -> Tensor:
        slope, log_a2 = self.beta1 - self.beta0, torch.nn.functional.logsigmoid(2 * lam)
        return 1 - (torch.sqrt(self.beta0**2 - 2 * slope * log_a2) - self.beta0) / slope


@dataclass(frozen=True)
class VE(_Path):
    """a = 1, b = sigma = sigma_max (1 - t): Karras et al. 2022 (EDM), where sigma itself is the solver's clock.

    A network reads time_scale log(sigma) / 4 (EDM's c_noise has time_scale = 1).
    """

    sigma_max: float = 80.0
    time_scale: float = 1000.0

    def a(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def b(self, t: Tensor) -> Tensor:
        return (1 - t) * self.sigma_max

    def da(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def db(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -self.sigma_max)

    def timestep(self, t: Tensor) -> Tensor:
        return torch.log(self.b(t)) * (self.time_scale / 4)

    def sigma_of(self, timestep: Tensor) -> Tensor:
        """The noise level of a timestep."""
        return torch.exp(timestep * (4 / self.time_scale))

    def time_of(self, lam: Tensor) -> Tensor:
        return 1 - torch.exp(-lam) / self.sigma_max


@dataclass(frozen=True)
class DiscreteVP(_Path):
    """A DDPM table of T noise levels, a^2 = alpha_bar_i (Ho et al. 2020, eq. 4; Nichol & Dhariwal 2021, eq. 17).

    Index i stands at t = 1 - (i + 1) / T: i = T - 1 is t = 0 (noise), i = -1 is t = 1 (data, alpha_bar = 1); other
    times mean the nearest index. A network reads i. The table is float32 and equals that of `diffusers` bit for bit.
    `zero_terminal_snr` rescales it to end in pure noise (Lin et al. 2024, algorithm 1): needs target v or x0 and
    trailing indices.
    """

    T: int = 100
    schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    beta_start: float = 1e-4
    beta_end: float = 2e-2
    zero_terminal_snr: bool = False
    vp: ClassVar[bool] = True
    number: ClassVar[Any] = np.float32

    def index(self, t: Tensor) -> Tensor:
        """The table's index at t, int64, -1 for clean data."""
        return torch.round((1 - t) * self.T).long().clamp(0, self.T) - 1

    def time(self, index: int) -> float:
        """The time at which the table's `index` stands."""
        return 1 - (index + 1) / self.T

    def alpha_bar(self, t: Tensor) -> Tensor:
        """a^2 at t, float32."""
        return _alpha_bars(self, t.device)[self.index(t) + 1]

    def a(self, t: Tensor) -> Tensor:
        return self.alpha_bar(t).sqrt()

    def b(self, t: Tensor) -> Tensor:
        return (1 - self.alpha_bar(t)).sqrt()

    def da(self, t: Tensor) -> Tensor:
        return torch.full_like(t, math.nan)

    def db(self, t: Tensor) -> Tensor:
        return torch.full_like(t, math.nan)

    def timestep(self, t: Tensor) -> Tensor:
        return self.index(t).to(t.dtype)

    def time_of(self, lam: Tensor) -> Tensor:
        raise ConfigError("path: noise levels between those of a DiscreteVP have no time; use a continuous path")

    def node(self, t: float) -> Node[float]:
        at = torch.tensor(t, dtype=torch.float64)
        a2 = self.alpha_bar(at)
        a, b = float(a2.sqrt()), float((1 - a2).sqrt())
        return Node(t, a, b, math.nan, math.nan, float(a2), float(1 - a2), float(self.index(at)), True)


Path = Linear | Cosine | VP | VE | DiscreteVP


def betas(path: DiscreteVP) -> Tensor:
    """The table's T noise increments, float32."""
    if path.schedule == "linear":
        table = torch.linspace(path.beta_start, path.beta_end, path.T, dtype=torch.float32)
    elif path.schedule == "scaled_linear":
        table = torch.linspace(path.beta_start**0.5, path.beta_end**0.5, path.T, dtype=torch.float32) ** 2
    else:
        level = [math.cos((i / path.T + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(path.T + 1)]
        steps = [min(1 - after / before, 0.999) for before, after in pairwise(level)]
        table = torch.tensor(steps, dtype=torch.float32)
    if not path.zero_terminal_snr:
        return table
    a = torch.cumprod(1 - table, 0).sqrt()
    a = (a - a[-1]) * (a[0] / (a[0] - a[-1]))
    return 1 - torch.cat([a[:1] ** 2, a[1:] ** 2 / a[:-1] ** 2])


@lru_cache(maxsize=64)
def _alpha_bars(path: DiscreteVP, device: torch.device) -> Tensor:
    """T + 1 float32 values, the first that of clean data."""
    # A table first made under inference mode could never serve a training step.
    with torch.inference_mode(False), torch.device("cpu"):
        table = torch.cat([torch.ones(1), torch.cumprod(1 - betas(path), 0)])
        return table.to(device)
