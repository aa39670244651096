"""How likely x is under a trained flow or diffusion, by integrating its ODE from the data back to the noise.

Along dx/dt = u(x, t) the density changes by d log p / dt = -div u (Chen et al. 2018), so that
log p(x) = log N(x(0)) - integral of div u dt: the density of what the deterministic samplers make of noise in the limit
of many steps (Song et al. 2021, eq. 39; Lipman et al. 2023, appendix C). Shapes: B batch, D numbers in one x.

The ends. At t = 0 x is N(0, 1), as where sampling starts (N(0, b^2) on VE), also where the path still holds a little
data. At t = 1 the velocity may be infinite or the network untrained; then integration stops at `end` < 1, noise is
added as on the path, and what is returned bounds log p(x) from below in expectation: E log p(a x + b e) + D log a.
A table's levels are interpolated (`InterpolatedVP`); its ends are its indices T - 1 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nextmove.config import ConfigError
from nextmove.contracts import Context, Rng, normal, uniform
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.paths import VE, VP, DiscreteVP, Node, Path, betas
from nextmove.decoders.solvers import Heun, Midpoint, Prediction, Rk4
from nextmove.decoders.targets import Target, usable

EXACT_UP_TO = 32
"""Largest D whose trace is exact where the choice is left open."""
CHUNK = 16
"""Forward derivatives taken at once."""

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ode:
    """How the ODE is integrated."""

    solver: Midpoint | Heun | Rk4 = Rk4()
    steps: int = 20
    trace: Literal["auto", "exact", "probe"] = "auto"
    """Exact: D forward derivatives a call. Probe: one, along random signs kept for the whole way, unbiased (Grathwohl
    et al. 2019). Auto: exact for D <= 32."""
    start: float = 0.0
    """Where the noise is taken to stand."""
    end: float = 0.0
    """Where the data is taken to stand; 0: the last time at which path and target have a velocity."""
    power: float = 0.0
    """Steps are equal in r of 1 - t = (1 - r)^power; 0: as suits the path (1; 2 on VP, where b grows like a root; 7 on
    VE, Karras et al. 2022, eq. 5)."""


def log_likelihood(decoder: DiffusionDecoder, ctx: Context, x: Tensor, *, rng: Rng, ode: Ode = Ode()) -> Tensor:
    """log p(x | ctx) in nats, (B,), of x (B, ...) in the decoder's space, or a lower bound (see the module).

    Draws, where needed: the noise at the data's end, then the probe. Raises ConfigError where path and target have no
    velocity on the way. Guidance is not looked at.
    """
    path, target = continuous(decoder.config.path), decoder.config.target
    warp = TimeWarp(path, ode.power or _power(path))
    ends = ode.start, ode.end or last_time(path, target)
    first, last = path.node(ends[0]), path.node(ends[1])
    if not usable(target, last):
        raise ConfigError(f"ode.end: {type(path).__name__} with target {target!r} has no velocity at t = {last.t:g}")
    log_p = x.new_zeros(len(x))
    if last.b:
        x = last.a * x + last.b * normal(x.shape, rng, like=x)
        log_p = log_p + x[0].numel() * math.log(last.a)
    exact = ode.trace == "exact" or (ode.trace == "auto" and x[0].numel() <= EXACT_UP_TO)
    probe = None if exact else (uniform(x.shape, rng, like=x) < 0.5).to(x) * 2 - 1
    stops = np.linspace(warp.inverse(ends[1]), warp.inverse(ends[0]), ode.steps + 1).tolist()
    training, rate = decoder.training, _rate(decoder.eval(), ctx, x.shape, warp, probe)
    # Fused attention has no forward derivative.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
        for step in ode.solver.plan(warp, target, list(pairwise(stops))):  # type: ignore[arg-type]
            state = ode.solver.step(rate, state, step, None, None)[0]
    decoder.train(training)
    spread = 1.0 if first.vp else first.b
    base = -0.5 * (state[:, :-1] / spread).square().sum(1) - x[0].numel() * math.log(spread * math.sqrt(2 * math.pi))
    # The last column went from the data to the noise: it holds minus the integral.
    return log_p + base + state[:, -1]


def bits_per_dim(log_p: Tensor, values: int, levels: int) -> Tensor:
    """Bits a value of data of `levels` levels, spread over [-1, 1], from log p in nats of `values` numbers."""
    return -log_p / (values * math.log(2)) + math.log2(levels / 2)


def last_time(path: Path | InterpolatedVP, target: Target) -> float:
    """The latest time at which the velocity is finite and, on a table, the network was trained."""
    if isinstance(path, InterpolatedVP):
        return path.table.time(0)
    if isinstance(path, VP):
        return 1 - 1e-3
    if isinstance(path, VE):
        return 1 - 2e-3 / path.sigma_max
    return 1 - 1e-3 if target == "x0" else 1.0


def exact_trace(f: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) (B, ...) and the trace (B,) of its Jacobian in each row, by one forward derivative for each number of x."""
    D = x[0].numel()
    basis = torch.eye(D, dtype=x.dtype, device=x.device).view(D, 1, *x.shape[1:]).expand(D, *x.shape)

    def entry(direction: Tensor) -> Tensor:
        return (torch.func.jvp(f, (x,), (direction,))[1] * direction).flatten(1).sum(1)

    return f(x), torch.func.vmap(entry, chunk_size=CHUNK)(basis).sum(0)


def probed_trace(f: Field, x: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and v' J v (B,) of a probe v, whose mean over random signs is the trace (Hutchinson 1990)."""
    made = torch.func.jvp(f, (x,), (probe,))
    return made[0], (made[1] * probe).flatten(1).sum(1)


@dataclass(frozen=True)
class InterpolatedVP:
    """A table's levels as a continuous path: a = sqrt(alpha_bar) as a cubic spline in t through all of them.

    The network reads the index as a fraction.
    """

    table: DiscreteVP
    number: ClassVar[Any] = np.float64
    vp: ClassVar[bool] = True

    def node(self, t: float) -> Node[float]:
        """The path at t; at t = 1 its b has no derivative."""
        curve, slope = _spline(self.table)
        a, da = float(curve(t)), float(slope(t))
        b2 = (1 - a) * (1 + a)
        b = math.sqrt(max(b2, 0.0))
        return Node(t, a, b, da, -a * da / b if b else -math.inf, a * a, b * b, (1 - t) * self.table.T - 1, True)


@lru_cache(maxsize=8)
def _spline(table: DiscreteVP) -> tuple[Callable[[float], Any], Callable[[float], Any]]:
    """a as a function of t, and its derivative."""
    from scipy.interpolate import CubicSpline

    a = np.sqrt(np.cumprod(1 - betas(table).double().numpy()))
    curve = CubicSpline(np.linspace(0, 1, table.T + 1), np.concatenate([a[::-1], [1.0]]))
    return curve, curve.derivative()


def continuous(path: Path) -> Path | InterpolatedVP:
    """A continuous path through the same levels."""
    return InterpolatedVP(path) if isinstance(path, DiscreteVP) else path


@dataclass(frozen=True)
class TimeWarp:
    """A path by r, where 1 - t = (1 - r)^power; its nodes keep t and the derivatives with respect to t."""

    path: Path | InterpolatedVP
    power: float

    def node(self, r: float) -> Node[float]:
        """The path at r."""
        return self.path.node(1 - (1 - r) ** self.power)

    def inverse(self, t: float) -> float:
        """r at t."""
        return 1 - float((1 - t) ** (1 / self.power))

    def slope(self, t: float) -> float:
        """dt / dr."""
        return float(self.power * (1 - t) ** (1 - 1 / self.power))


def _power(path: Path | InterpolatedVP) -> float:
    return 7.0 if isinstance(path, VE) else 2.0 if isinstance(path, VP | InterpolatedVP) else 1.0


def _rate(
    decoder: DiffusionDecoder, ctx: Context, shape: torch.Size, warp: TimeWarp, probe: Tensor | None
) -> Callable[[Tensor, Node[float]], Prediction]:
    """What a solver asks of x and the divergence side by side (B, D + 1): the velocity and div u, with respect to r."""

    def rate(state: Tensor, node: Node[float]) -> Prediction:
        def velocity(x: Tensor) -> Tensor:
            return decoder.predict(x, node, ctx).u()

        x = state[:, :-1].reshape(shape)
        u, div = exact_trace(velocity, x) if probe is None else probed_trace(velocity, x, probe)
        y = torch.cat([u.flatten(1), div[:, None]], 1) * warp.slope(node.t)
        return Prediction(state, y, node, "velocity")

    return rate
