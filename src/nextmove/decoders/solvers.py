"""Solvers: each turns (x, state) at one time into (x, state) at the next by calls of `predict(x, node)`.

`plan` computes all coefficients once, as Python floats, in the path's precision (float32 for a table, as `diffusers`
does); `step` then costs a few kernels. A step's `std` says how much of the noise it is handed it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.decoders import targets
from nextmove.decoders.grids import Grid, Pairs
from nextmove.decoders.paths import Node, Path
from nextmove.decoders.targets import Target, usable


@dataclass(frozen=True, slots=True)
class Prediction:
    """A network's answer y at x (which inpainting may have changed) and what it implies; `clip` bounds x1, 0 = off."""

    x: Tensor
    y: Tensor
    node: Node[float]
    target: Target
    clip: float = 0.0

    def x1(self) -> Tensor:
        """The data."""
        x1 = targets.to_x1(self.target, self.x, self.y, self.node)
        return x1.clamp(-self.clip, self.clip) if self.clip else x1

    def e(self) -> Tensor:
        """The noise, not affected by `clip`."""
        return targets.to_e(self.target, self.x, self.y, self.node)

    def u(self) -> Tensor:
        """The velocity."""
        return targets.to_u(self.target, self.x, self.y, self.node)


Predict = Callable[[Tensor, Node[float]], Prediction]
State = Tensor | None


@dataclass(frozen=True)
class Step:
    """From `now` to `then` with a solver's own coefficients `c`, nodes in between, and the std of fresh noise."""

    now: Node[float]
    then: Node[float]
    c: tuple[float, ...] = ()
    inner: tuple[Node[float], ...] = ()
    std: float = 0.0


def _velocity_steps(path: Path, target: Target, pairs: Pairs, middle: bool, name: str) -> tuple[Step, ...]:
    """Steps of a Runge-Kutta method: c = (dt, whether the velocity exists at `then`)."""
    steps = []
    for now, then in pairs:
        a, b = path.node(now), path.node(then)
        inner = (path.node((now + then) / 2),) if middle else ()
        for node in (a, *inner):
            if not usable(target, node):
                where = f"{type(path).__name__} with target {target!r} has no velocity at t = {node.t:g}"
                raise ConfigError(f"solver: {name} integrates velocities, and {where}")
        steps.append(Step(a, b, (then - now, float(usable(target, b))), inner))
    return tuple(steps)


@dataclass(frozen=True)
class Euler:
    """First order in t, one call a step."""

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps."""
        return _velocity_steps(path, target, pairs, False, "Euler")

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        p = predict(x, s.now)
        return torch.add(p.x, p.u(), alpha=s.c[0]), None


@dataclass(frozen=True)
class Midpoint:
    """Second order in t, two calls a step."""

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps."""
        return _velocity_steps(path, target, pairs, True, "Midpoint")

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        p = predict(x, s.now)
        half = torch.add(p.x, p.u(), alpha=s.c[0] / 2)
        return torch.add(p.x, predict(half, s.inner[0]).u(), alpha=s.c[0]), None


@dataclass(frozen=True)
class Heun:
    """Second order in t, two calls a step; one where the velocity does not exist at its end.

    On the path VE this is Karras et al. 2022, algorithm 1 (2 n - 1 calls).
    """

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps."""
        return _velocity_steps(path, target, pairs, False, "Heun")

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        dt, corrected = s.c
        p = predict(x, s.now)
        u = p.u()
        euler = torch.add(p.x, u, alpha=dt)
        if not corrected:
            return euler, None
        return torch.add(p.x, u + predict(euler, s.then).u(), alpha=dt / 2), None


@dataclass(frozen=True)
class Rk4:
    """Fourth order in t, four calls a step; a midpoint step where the velocity does not exist at its end."""

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps."""
        return _velocity_steps(path, target, pairs, True, "Rk4")

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        dt, whole = s.c
        p = predict(x, s.now)
        k1 = p.u()
        k2 = predict(torch.add(p.x, k1, alpha=dt / 2), s.inner[0]).u()
        if not whole:
            return torch.add(p.x, k2, alpha=dt), None
        k3 = predict(torch.add(p.x, k2, alpha=dt / 2), s.inner[0]).u()
        k4 = predict(torch.add(p.x, k3, alpha=dt), s.then).u()
        return torch.add(p.x, torch.add(k1 + k4, k2 + k3, alpha=2), alpha=dt / 6), None


def _transition(path: Path, now: Node[float], then: Node[float]) -> tuple[Any, Any]:
    """alpha^2 and beta with x_now = alpha x_then + sqrt(beta) z, in the path's precision."""
    number = path.number
    alpha2 = number(now.a2) / number(then.a2)
    # 1 - alpha^2 is the same on a VP path, and what `diffusers` rounds.
    return alpha2, (1 - alpha2 if path.vp else number(now.b2) - alpha2 * number(then.b2))


@dataclass(frozen=True)
class Ancestral:
    """DDPM: a draw from the posterior q(x_then | x_now, x1) (Ho et al. 2020, eq. 7), on any path.

    variance: small = the posterior's, large = beta. The step that ends in clean data adds no noise.
    """

    variance: Literal["small", "large"] = "small"

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps, with c = (weight of x1, weight of x)."""
        return tuple(self._plan(path, path.node(now), path.node(then)) for now, then in pairs)

    def _plan(self, path: Path, now: Node[float], then: Node[float]) -> Step:
        number = path.number
        alpha2, beta = _transition(path, now, then)
        b2, b2_then, root = number(now.b2), number(then.b2), np.sqrt(number(then.a2))
        c = float(root * beta / b2), float(np.sqrt(alpha2) * b2_then / b2)
        variance = b2_then / b2 * beta if self.variance == "small" else beta
        return Step(now, then, c, std=float(np.sqrt(variance)) if then.b > 0 else 0.0)

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        p = predict(x, s.now)
        return _noisy(torch.add(p.x1() * s.c[0], p.x, alpha=s.c[1]), s, noise), None


@dataclass(frozen=True)
class Ddim:
    """x' = a' x1 + sqrt(b'^2 - sigma^2) e + sigma z (Song et al. 2021, eq. 12 and 16), on any path.

    eta scales sigma: 0 is deterministic, 1 is the ancestral step of small variance. With `clipped_noise` e is derived
    from the clipped x1.
    """

    eta: float = 0.0
    clipped_noise: bool = False

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps, with c = (weight of x1, weight of e)."""
        return tuple(self._plan(path, path.node(now), path.node(then)) for now, then in pairs)

    def _plan(self, path: Path, now: Node[float], then: Node[float]) -> Step:
        number = path.number
        _, beta = _transition(path, now, then)
        b2_then = number(then.b2)
        std = number(self.eta) * np.sqrt(b2_then / number(now.b2) * beta)
        # With eta = 1 after pure noise nothing is left for e, but for rounding.
        left = np.maximum(b2_then - std**2, number(0))
        return Step(now, then, (then.a, float(np.sqrt(left))), std=float(std))

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        p = predict(x, s.now)
        x1 = p.x1()
        e = targets.to_e("x0", p.x, x1, s.now) if self.clipped_noise else p.e()
        return _noisy(torch.add(x1 * s.c[0], e, alpha=s.c[1]), s, noise), None


@dataclass(frozen=True)
class DpmPP:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): second order in log(a / b), one call a step, on any path.

    State: the previous x1. The first step is of first order, and so is the last where it ends in clean data or, with
    `lower_order_final`, where there are fewer than 15.
    """

    lower_order_final: bool = True

    def plan(self, path: Path, target: Target, pairs: Pairs) -> tuple[Step, ...]:
        """The steps, with c = (weight of x, weight of x1, weight of the previous x1)."""
        steps: list[Step] = []
        before: Any = None
        for k, (now, then) in enumerate((path.node(s), path.node(t)) for s, t in pairs):
            last = k == len(pairs) - 1
            lower = before is None or (last and (then.b == 0 or (self.lower_order_final and len(pairs) < 15)))
            with np.errstate(divide="ignore"):
                h = _lam(path, then) - _lam(path, now)
            weight = -path.number(then.a) * np.expm1(-h)
            back = path.number(0) if lower else weight * h / (2 * before)
            c = float(path.number(then.b) / path.number(now.b)), float(weight + back), float(-back)
            steps.append(Step(now, then, c))
            before = h
        return tuple(steps)

    def step(self, predict: Predict, x: Tensor, s: Step, state: State, noise: Tensor | None) -> tuple[Tensor, State]:
        """One step."""
        p = predict(x, s.now)
        x1 = p.x1()
        x = torch.add(p.x * s.c[0], x1, alpha=s.c[1])
        if state is not None and s.c[2]:
            x = torch.add(x, state, alpha=s.c[2])
        return x, x1


def _lam(path: Path, node: Node[float]) -> Any:
    return np.log(path.number(node.a)) - np.log(path.number(node.b))


def _noisy(x: Tensor, s: Step, noise: Tensor | None) -> Tensor:
    if not s.std:
        return x
    if noise is None:
        raise ValueError(f"noise: expected draws for a step of std {s.std:g}, found None")
    return torch.add(x, noise, alpha=s.std)


Solver = Euler | Midpoint | Heun | Rk4 | Ancestral | Ddim | DpmPP
SOLVERS: dict[str, type[Solver]] = {
    "ancestral": Ancestral,
    "ddim": Ddim,
    "dpm++": DpmPP,
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "rk4": Rk4,
}
"""What a sampler may be called."""
VELOCITY = (Euler, Midpoint, Heun, Rk4)


@lru_cache(maxsize=256)
def plan(path: Path, target: Target, solver: Solver, grid: Grid, steps: int) -> Sequence[Step]:
    """The steps of a solver on a grid, computed once; ConfigError where target, path and solver do not go together."""
    if steps < 1:
        raise ConfigError(f"steps: expected at least 1, found {steps}")
    planned = solver.plan(path, target, grid.pairs(path, steps))
    if target == "eps" and planned[0].now.a == 0:
        raise ConfigError("target: eps says nothing about x1 where a = 0, as at the first step; use v, x0 or velocity")
    return planned
