"""Consistency flow matching: every point of a path names the same end, so that one step reaches it.

Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders.few_step import euler_integrate, expand_like, full_precision, interpolate, network, start
from nextmove.decoders.resampled import FewSteps, Resampled


@dataclass(frozen=True)
class Consistency(FewSteps):
    """Consistency flow matching (Yang et al. 2024, eq. 6), one segment and one step.

    With v_t = net(x_t, 1000 t, ctx), x_t = t x + (1 - t) e, f_t = x_t + (1 - t) v_t, r = t + delta, and sg what has no
    gradient (f_r is x itself from r = boundary on):

        loss:   mean |f_t - sg f_r|^2 + alpha mean |v_t - sg v_r|^2,  t uniform in [eps, 1)
        sample: from x = e, for k = 0 .. N - 1: x <- x + net(x, 1000 (eps + k / N (1 - eps)), ctx) / N,  N = 1

    The paper's: segments 2, steps 2, eps and delta 1e-3, boundary 0 and later 0.9, time_scale 999. FlowPolicy's (Zhang
    et al. 2025): segments 2, steps 1, delta 1e-2, boundary 1, time_scale 99, stop_gradient off. One step over two
    segments shrinks the spread: an exact model of N(.7, .5^2) gives .118. Each point learns from its neighbour, delta
    later: a small delta is exact but takes many training steps to carry the end's news to the noise.
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    segments: int = 1
    """Equal parts of [0, 1]; a point names the end of its own. Sample with at least as many steps."""
    eps: float = 1e-2
    """First time of training and sampling."""
    delta: float = 3e-2
    """Distance in time of the two points compared."""
    boundary: float = 0.9
    """From here on the later point's answer is replaced by the true end (0: always)."""
    alpha: float = 1e-5
    """Weight of the difference of the two velocities."""
    time_scale: float = 1000.0
    """The network reads t times this."""
    stop_gradient: bool = True
    """Whether the later point is a fixed target (the online weights, detached; there is no averaged teacher)."""
    steps: int = 1

    def __post_init__(self) -> None:
        for name in ("segments", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> ConsistencyDecoder:
        """The decoder of x (B, *shape)."""
        return ConsistencyDecoder(self, network(self.trunk, shape, 1, context))


class ConsistencyDecoder(Resampled, nn.Module):
    """A generative rule around `net(x, t (B, 1), ctx) -> velocity`; training runs outside autocast."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "step"}

    def __init__(self, config: Consistency, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at` with t uniform in [eps, 1), then noise, drawn from `rng`."""
        t = uniform(x.shape[:1], rng, like=x) * (1 - self.config.eps) + self.config.eps
        return self.loss_at(ctx, x, weight=weight, t=t, noise=normal(x.shape, rng, like=x))

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{consistency, velocity: `weight`}."""
        return {} if weight is None else {"consistency": weight, "velocity": weight}

    def loss_at(
        self, ctx: Context, x: Tensor, *, weight: Tensor | None = None, t: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """{consistency, velocity} at times t (B,) and noise like x; both calls see the same dropout mask.

        With r = min(t + delta, 1), e the end of t's segment (also where r lies beyond it), f_t = x_t + (e - t) v_t:
        consistency = mean (f_t - f_r)^2, velocity = alpha mean (v_t - v_r)^2 over all entries, the latter 0 for rows
        with t >= boundary or within 1.01 delta of their end. weight: (B, H) or like x.
        """
        c, net = self.config, full_precision(self.net)
        r, end = (t + c.delta).clamp(max=1), self._end(t)
        x_t, x_r, x_end = interpolate(x, noise, t), interpolate(x, noise, r), interpolate(x, noise, end)
        with _same_dropout(x, self.training):
            v_t = net(x_t, t[:, None] * c.time_scale, ctx)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not c.stop_gradient):
            v_r = net(x_r, r[:, None] * c.time_scale, ctx)
        named = torch.where(expand_like(r < c.boundary, x) > 0, x_r + expand_like(end - r, x) * v_r, x_end)
        apart = (x_t + expand_like(end - t, x) * v_t - named) ** 2
        inside = expand_like((t < c.boundary) & (end - t > 1.01 * c.delta), x) > 0
        turned = torch.where(inside, (v_t - v_r) ** 2, 0)
        return {"consistency": weighted_mean(apart, weight), "velocity": c.alpha * weighted_mean(turned, weight)}

    def _end(self, t: Tensor) -> Tensor:
        """The first segment edge not before t, and not 0: an edge belongs to the segment it ends."""
        edges = torch.linspace(0, 1, self.config.segments + 1, dtype=t.dtype, device=t.device)
        return edges[torch.searchsorted(edges, t).clamp(1, self.config.segments)]

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
        """x (B, *shape) by Euler steps of 1 / steps at eps + i / steps (1 - eps); `known` as in `euler_integrate`."""
        c, n = self.config, self.config.steps if steps is None else steps
        noise = start(self.net, (ctx.batch, *shape), rng, noise)
        times = [i / n * (1 - c.eps) + c.eps for i in range(n)]
        return euler_integrate(
            lambda x, t: self.net(x, x.new_full((len(x), 1), t * c.time_scale), ctx), noise, times, 1 / n, known
        )


@contextmanager
def _same_dropout(x: Tensor, training: bool) -> Iterator[None]:
    """Gives the next call the random state that this one started from."""
    with torch.random.fork_rng([x.device] if x.is_cuda else [], enabled=training):
        yield
