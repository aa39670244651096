"""Closed forms for Gaussian data: x1 ~ N(mu, diag(s^2)), so everything about every path is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context
from nextmove.decoders.paths import Node, Path
from nextmove.decoders.solvers import Prediction, Step
from nextmove.decoders.targets import Target

MU = torch.tensor([0.7, -1.2, 0.3], dtype=torch.float64)
SD = torch.tensor([0.5, 1.5, 0.05], dtype=torch.float64)


def posterior(x: Tensor, n: Node[Any], mu: Tensor = MU, sd: Tensor = SD) -> tuple[Tensor, Tensor]:
    """E[x1 | x] and E[e | x]."""
    gain = (x - n.a * mu) / (n.a**2 * sd**2 + n.b**2)
    return mu + n.a * sd**2 * gain, n.b * gain


def ideal(target: Target, x: Tensor, n: Node[Any], mu: Tensor = MU, sd: Tensor = SD) -> Tensor:
    """What a perfect network answers."""
    x1, e = posterior(x, n, mu, sd)
    return {"x0": x1, "eps": e, "v": n.a * e - n.b * x1, "velocity": n.da * x1 + n.db * e}[target]


def flow(path: Path, start: float, end: float, x: Tensor) -> Tensor:
    """The exact solution at t = end of the probability-flow ODE through x at t = start."""
    p, q = path.node(start), path.node(end)
    spread = ((q.a**2 * SD**2 + q.b**2) / (p.a**2 * SD**2 + p.b**2)).sqrt()
    return q.a * MU + spread * (x - p.a * MU)


def walk(solver: Any, target: Target, steps: tuple[Step, ...], x: Tensor, noises: list[Tensor] | None = None) -> Tensor:
    """A solver run with the perfect network."""
    state = None
    for k, step in enumerate(steps):
        noise = None if noises is None else noises[k]
        x, state = solver.step(lambda x, n: Prediction(x, ideal(target, x, n), n, target), x, step, state, noise)
    return x


class Formula(nn.Module):
    """A function `(x, t, ctx) -> y` in the place of a network."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor, ctx: Context) -> Tensor:
        return self.function(x, t, ctx)


@dataclass(frozen=True)
class Exact:
    """A trunk that builds a formula and checks nothing."""

    function: Any

    def build(self, **_: Any) -> nn.Module:
        return Formula(self.function)
