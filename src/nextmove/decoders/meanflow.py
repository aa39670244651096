"""MeanFlow: the network learns the average velocity between two times, so that one step covers them all.

In our direction (t = 0 noise, 1 data): let x move along the flow, dx/dt = v(x, t), and for t <= s, h = s - t,

    u(x_t, t, h) = (1 / h) integral of v(x_tau, tau) from t to s,        so that x_s = x_t + h u(x_t, t, h).

Differentiating h u = integral with respect to t along the flow, s held fixed (so dh/dt = -1), gives -u + h du/dt = -v:

    u = v + h du/dt,        du/dt = J u (v, 1, -1), the derivative of u along (dx, dt, dh) = (v, 1, -1).

It is linear in v, so the conditional velocity x - noise may stand for the marginal v in target and tangent alike.
(The paper's time runs the other way: u = v - (t - r) du/dt.) Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders.few_step import (
    euler_integrate,
    expand_like,
    full_precision,
    interpolate,
    network,
    start,
    take_rows,
)
from nextmove.decoders.guidance import drop
from nextmove.decoders.resampled import FewSteps, Resampled


@dataclass(frozen=True)
class MeanFlow(FewSteps):
    """MeanFlow (Geng et al. 2025, eq. 6 and algorithm 1), one step; the network is conditioned on t and h.

    With u = net(x_t, (t, h), ctx), x_t = t x + (1 - t) e, v = x - e, and sg what has no gradient:

        loss:   mean over rows of L / sg(L + floor),  L = |u - sg(v + h du/dt)|^2;  half of the rows have h = 0
        sample: from x = e, for k = 0 .. N - 1: x <- x + net(x, (k / N, 1 / N), ctx) / N,  N = 1
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    share: float = 0.5
    """Share of rows with h > 0; the others learn the velocity itself (the paper: .25 on ImageNet, .75 on CIFAR)."""
    mean: float = 0.4
    spread: float = 1.0
    """Both times are sigmoid(mean + spread z) (the paper's -0.4, in our direction)."""
    power: float = 1.0
    floor: float = 1e-2
    """A row's square error L is divided by (L + floor)^power, held fixed (0: plain squares)."""
    time_scale: float = 1.0
    """The network reads t and h times this; large values make du/dt large and noisy."""
    steps: int = 1
    drop: float = 0.0
    """Share of rows trained on `ctx.null`, so that the model also generates without a condition."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> MeanFlowDecoder:
        """The decoder of x (B, *shape)."""
        return MeanFlowDecoder(self, network(self.trunk, shape, 2, context))


class MeanFlowDecoder(Resampled, nn.Module):
    """A generative rule around `net(x, (t, h) (B, 2), ctx) -> average velocity from t to t + h`.

    Training runs outside autocast and, for rows with h > 0, through forward-mode differentiation with attention by the
    math kernel (fused ones have no forward derivative).
    """

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "step"}

    def __init__(self, config: MeanFlow, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at` with draws from `rng`: two normals a row (times), one uniform (whether h > 0), noise, drop."""
        c, batch = self.config, x.shape[0]
        times = torch.sigmoid(c.mean + c.spread * normal((batch, 2), rng))
        apart = uniform((batch,), rng) < c.share
        t = times.amin(1)
        h = torch.where(apart, times.amax(1) - t, 0)
        noise = normal(x.shape, rng, like=x)
        keep = uniform((batch,), rng).to(x.device) >= c.drop if c.drop else None
        return self.loss_at(ctx, x, weight=weight, t=t.to(x), h=h.to(x), noise=noise, keep=keep)

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{mean_flow: the rows of which anything counts}."""
        return {} if weight is None else {"mean_flow": weight.flatten(1).amax(1) > 0}

    def loss_at(
        self,
        ctx: Context,
        x: Tensor,
        *,
        weight: Tensor | None = None,
        t: Tensor,
        h: Tensor,
        noise: Tensor,
        keep: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """{mean_flow: mean over rows of L / (L + floor)^power}, L the row's summed square error, from t to t + h, (B,).

        keep: (B,) bool, False where the context is dropped. weight: (B, H) or like x; rows without any don't count.
        Rows of h exactly 0 have the velocity as target and cost one ordinary call. With power 1 the value stays near 1
        while the model improves.
        """
        x_t, velocity = interpolate(x, noise, t), x - noise
        ctx = ctx if keep is None else drop(ctx, keep)
        error = torch.empty_like(x)
        for rule, taken in (self._near, h == 0), (self.target, h != 0):
            index = taken.nonzero()[:, 0]
            if len(index):
                made, target = rule(x_t[index], t[index], h[index], velocity[index], take_rows(ctx, index))
                error = error.index_copy(0, index, (made - target) ** 2)
        counted = torch.ones_like(error) if weight is None else _like(weight, error)
        L = (error * counted).flatten(1).sum(1)
        adapted = L / (L.detach() + self.config.floor) ** self.config.power
        return {"mean_flow": weighted_mean(adapted, counted.flatten(1).amax(1) > 0)}

    def target(self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """u(x, t, h) with gradient, and v + h du/dt without; both from one pass, hence with one dropout mask."""
        net = full_precision(self.net)

        def average(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
            return net(x, self._times(t, h), ctx)

        with sdpa_kernel(SDPBackend.MATH):
            tangents = (velocity, torch.ones_like(t), -torch.ones_like(h))
            made = torch.func.jvp(average, (x, t, h), tangents)
        u, slope = made[0], made[1]
        return u, (velocity + expand_like(h, x) * slope).detach()

    def _near(self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        return full_precision(self.net)(x, self._times(t, h), ctx), velocity

    def _times(self, t: Tensor, h: Tensor) -> Tensor:
        return torch.stack([t, h], 1) * self.config.time_scale

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
        """x (B, *shape) in `steps` equal steps of h = 1 / steps; `known` as in `euler_integrate`."""
        n = self.config.steps if steps is None else steps
        noise = start(self.net, (ctx.batch, *shape), rng, noise)

        def velocity(x: Tensor, t: float) -> Tensor:
            y: Tensor = self.net(x, self._times(x.new_full((len(x),), t), x.new_full((len(x),), 1 / n)), ctx)
            return y

        return euler_integrate(velocity, noise, [i / n for i in range(n)], 1 / n, known)


def _like(weight: Tensor, x: Tensor) -> Tensor:
    return weight.to(x).reshape(*weight.shape, *[1] * (x.dim() - weight.dim())).expand_as(x)
