"""Classifier-free guidance: y = y_null + w (y_ctx - y_null) (Ho & Salimans 2022; w = 1 is the conditional model).

At fixed x all targets are linear maps of each other, so it may act on whatever the network answers, but before x1 is
clipped. Both halves go through the network in one batch (a network with batch statistics would mix them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nextmove.contracts import Context

Call = Callable[[Tensor, Tensor, Context], Tensor]


@dataclass(frozen=True)
class Guidance:
    """Weight w inside t in [start, end], 1 outside (Kynkäänniemi et al. 2024).

    rescale: how far the answer is brought back to the conditional one's spread, per row (Lin et al. 2024, eq. 16).
    """

    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.0

    def active(self, t: float) -> bool:
        """Whether anything is to be done at time t."""
        return self.weight != 1 and self.start <= t <= self.end

    def mix(self, conditional: Tensor, null: Tensor) -> Tensor:
        """The guided answer, from the two halves."""
        y = torch.lerp(null, conditional, self.weight)
        if not self.rescale:
            return y
        dims = tuple(range(1, y.dim()))
        ratio = conditional.std(dims, keepdim=True) / y.std(dims, keepdim=True)
        return y * (1 + self.rescale * (ratio - 1))


def null_of(ctx: Context) -> Context:
    """The unconditional context; ValueError unless it has the same parts as `ctx`."""
    null = ctx.null
    if null is None:
        raise ValueError("ctx.null: guidance needs the unconditional context, found None")
    for name in ("vector", "tokens", "mask", "positions", "memory"):
        mine, other = getattr(ctx, name) is None, getattr(null, name) is None
        if mine != other:
            raise ValueError(f"ctx.null.{name}: expected it to be {'absent' if mine else 'present'}, as in ctx")
    if null.batch != ctx.batch:
        raise ValueError(f"ctx.null.batch: expected {ctx.batch}, found {null.batch}")
    return null


def drop(ctx: Context, keep: Tensor) -> Context:
    """The context where `keep` (B,) bool holds, the null context elsewhere: how a network learns both."""
    return ctx.where(keep, null_of(ctx))


def guided(net: Call, ctx: Context, guidance: Guidance) -> Callable[[Tensor, Tensor, float], Tensor]:
    """A function `(x, times (B, n), t) -> y`; the doubled context is made once, for all calls."""
    if guidance.weight == 1:
        return lambda x, times, t: net(x, times, ctx)
    both = ctx.cat(null_of(ctx))

    def call(x: Tensor, times: Tensor, t: float) -> Tensor:
        if not guidance.active(t):
            return net(x, times, ctx)
        conditional, null = net(torch.cat([x, x]), torch.cat([times, times]), both).chunk(2)
        return guidance.mix(conditional, null)

    return call
