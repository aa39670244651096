"""Shortcut models: one network for every number of steps, taught that two small steps make a large one.

Shapes: B batch, H horizon, A action width, M finest number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders.few_step import euler_integrate, expand_like, interpolate, network, start, take_rows
from nextmove.decoders.resampled import FewSteps, Resampled


@dataclass(frozen=True)
class Shortcut(FewSteps):
    """Shortcut model (Frans et al. 2024, algorithm 1); the network is conditioned on t and log2 of the number of steps.

    With s(x, t, n) = net(x, (1000 t, log2 n), ctx), x_t = t x + (1 - t) e, and sg what has no gradient:

        loss:   mean |s(x_t, t, n) - target|^2;  7 rows in 8 have n = M and target x - e, the others n < M and target
                sg (s(x_t, t, 2 n) + s(x', t + 1 / (2 n), 2 n)) / 2 with x' = x_t + s(x_t, t, 2 n) / (2 n)
        sample: from x = e, for k = 0 .. N - 1: x <- x + s(x, k / N, N) / N,  N = 1
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    finest: int = 128
    """M, a power of two: steps of 1 / M are taught by flow matching, larger ones by two of half their size."""
    share: float = 0.125
    """Share of rows taught by two half steps."""
    clip: float = 0.0
    """Bound of the half-way point and of the taught velocity; 0 switches it off (the authors' code: 4)."""
    time_scale: float = 1000.0
    """The network reads t times this (the authors' code: 1)."""
    steps: int = 1

    def __post_init__(self) -> None:
        if self.finest < 2 or self.finest & (self.finest - 1):
            raise ValueError(f"finest: expected a power of two from 2 on, found {self.finest}")
        self.level(self.steps)

    def level(self, steps: int) -> int:
        """log2 of a number of steps; raises ValueError unless it is a power of two up to `finest`."""
        if steps < 1 or steps & (steps - 1) or steps > self.finest:
            raise ValueError(f"steps: expected a power of two from 1 to {self.finest}, found {steps}")
        return steps.bit_length() - 1

    @property
    def reach(self) -> float:
        """Largest magnitude that the taught velocity takes noise of three deviations to."""
        return max(0.0, self.clip - 3) if self.clip else math.inf

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> ShortcutDecoder:
        """The decoder of x (B, *shape)."""
        return ShortcutDecoder(self, network(self.trunk, shape, 2, context))


class ShortcutDecoder(Resampled, nn.Module):
    """A generative rule around `net(x, (t, log2 steps) (B, 2), ctx) -> velocity of that step`."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "step"}

    def __init__(self, config: Shortcut, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net

    def loss(
        self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng, teacher: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """`loss_at` with draws from `rng`: two uniforms a row (level and time), then noise.

        A row's level is a function of its own draw, so the number of rows taught by half steps varies around its share.
        """
        c = self.config
        finest = c.level(c.finest)
        drawn = uniform((x.shape[0], 2), rng).to(x.device)
        coarse = (drawn[:, 0] * finest / c.share).long() if c.share else drawn[:, 0].new_full((), finest).long()
        level = torch.where(drawn[:, 0] < c.share, coarse.clamp(max=finest - 1), finest)
        t = (drawn[:, 1] * 2.0**level).floor() / 2.0**level
        noise = normal(x.shape, rng, like=x)
        return self.loss_at(ctx, x, weight=weight, t=t, level=level, noise=noise, teacher=teacher)

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{flow, bootstrap: `weight`}."""
        return {} if weight is None else {"flow": weight, "bootstrap": weight}

    def loss_at(
        self,
        ctx: Context,
        x: Tensor,
        *,
        weight: Tensor | None = None,
        t: Tensor,
        level: Tensor,
        noise: Tensor,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """{flow, bootstrap}: the square error of rows at level log2 M and of those below, each over all entries.

        t: (B,) multiples of 2^-level. level: (B,) int, log2 of the number of steps. teacher: the network whose half
        steps are believed (averaged weights in the paper); the online weights, detached, where absent.
        weight: (B, H) or like x.
        """
        x_t, target = interpolate(x, noise, t), x - noise
        coarse = level < self.config.level(self.config.finest)
        index = coarse.nonzero()[:, 0]
        if len(index):
            taught = self._two_halves(teacher or self.net, x_t[index], t[index], level[index], take_rows(ctx, index))
            target = target.index_copy(0, index, taught.to(target))
        error = (self.net(x_t, self._times(t, level), ctx) - target) ** 2
        taken = expand_like(coarse, error)
        return {"flow": weighted_mean(error * (1 - taken), weight), "bootstrap": weighted_mean(error * taken, weight)}

    @torch.no_grad()
    def _two_halves(self, net: nn.Module, x: Tensor, t: Tensor, level: Tensor, ctx: Context) -> Tensor:
        """The mean velocity of two steps of half the size."""
        half = 2.0 ** -(level + 1)
        first = net(x, self._times(t, level + 1), ctx)
        middle = self._clip(x + expand_like(half, x) * first)
        second = net(middle, self._times(t + half, level + 1), ctx)
        return self._clip((first + second) / 2)

    def _clip(self, x: Tensor) -> Tensor:
        return x.clamp(-self.config.clip, self.config.clip) if self.config.clip else x

    def _times(self, t: Tensor, level: Tensor) -> Tensor:
        return torch.stack([t * self.config.time_scale, level.to(t)], 1)

    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """x (B, *shape) in `steps` (1, 2, 4 .. M) equal steps; `known` as in `euler_integrate`."""
        n = self.config.steps if steps is None else steps
        level = self.config.level(n)
        noise = start(self.net, (ctx.batch, *shape), rng, noise)

        def velocity(x: Tensor, t: float) -> Tensor:
            y: Tensor = self.net(x, self._times(x.new_full((len(x),), t), x.new_full((len(x),), level)), ctx)
            return y

        return euler_integrate(velocity, noise, [i / n for i in range(n)], 1 / n, known)
