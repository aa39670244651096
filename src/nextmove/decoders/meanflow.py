"""MeanFlow: the network learns the average velocity between two times, so that one step covers them all.

In our direction (t = 0 noise, 1 data): let x move along the flow, dx/dt = v(x, t), and for t <= s, h = s - t,

    u(x_t, t, h) = (1 / h) integral of v(x_tau, tau) from t to s,        so that x_s = x_t + h u(x_t, t, h).

Differentiating h u = integral with respect to t along the flow, s held fixed (so dh/dt = -1), gives -u + h du/dt = -v:

    u = v + h du/dt,        du/dt = J u (v, 1, -1), the derivative of u along (dx, dt, dh) = (v, 1, -1).

It is linear in v, so the conditional velocity x - noise may stand for the marginal v in target and tangent alike.
(The paper's time runs the other way: u = v - (t - r) du/dt.) Without derivatives, a step over [t, s] is as long as two
steps over its parts, wherever it is cut: for 0 < c < 1

    u(x_t, t, h) = c u(x_t, t, c h) + (1 - c) u(x_m, t + c h, (1 - c) h),        x_m = x_t + c h u(x_t, t, c h).

Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders.dispersive import dispersive
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

Levels = tuple[Tensor, ...]


@dataclass(frozen=True)
class MeanFlow(FewSteps):
    """MeanFlow (Geng et al. 2025, eq. 6 and algorithm 1), one step; the network is conditioned on t and h.

    With u = net(x_t, (t, h), ctx), x_t = t x + (1 - t) e, v = x - e, and sg what has no gradient:

        loss:   mean over rows of L / sg(L + floor),  L = |u - sg(v + h du/dt)|^2;  half of the rows have h = 0
        sample: from x = e, for k = 0 .. N - 1: x <- x + net(x, (k / N, 1 / N), ctx) / N,  N = 1

    MP1 (Sheng et al. 2026) has per_entry, power 0.5, floor 1e-3, guidance 2 and dispersive 0.5; self-consistent flows
    (OFP, Li et al. 2026; shortcut models, Frans et al. 2024, at every length) have rule `two_steps`.
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    share: float = 0.5
    """Share of rows with h > 0; the others learn the velocity itself (the paper: .25 on ImageNet, .75 on CIFAR)."""
    mean: float = 0.4
    spread: float = 1.0
    """Both times are sigmoid(mean + spread z) (the paper's -0.4, in our direction)."""
    rule: Literal["derivative", "two_steps"] = "derivative"
    """What a step over h > 0 is taught by: the identity above, or two steps over its parts, cut at random."""
    guidance: float = 1.0
    """w: v becomes w v + (1 - w) sg u(x_t, t, 0), away from what the model takes for the mean (MP1: 2)."""
    dispersive: float = 0.0
    """Weight of the loss that drives rows of a batch apart inside the network (decoders/dispersive.py; MP1: 0.5)."""
    per_entry: bool = False
    """L is the mean square error of a row in place of the sum."""
    power: float = 1.0
    floor: float = 1e-2
    """A row's square error L is divided by (L + floor)^power, held fixed (0: plain squares)."""
    time_scale: float = 1.0
    """The network reads t and h times this; large values make du/dt large and noisy."""
    steps: int = 1
    drop: float = 0.0
    """Share of rows trained on `ctx.null`, so that the model also generates without a condition."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> MeanFlowDecoder:
        """The decoder of x (B, *shape); raises ValueError for a dispersive loss in a trunk that shows no levels."""
        net = network(self.trunk, shape, 2, context)
        if self.dispersive and not hasattr(net, "with_levels"):
            raise ValueError(
                f"decoder.dispersive: expected 0 with {type(self.trunk).__name__}, which shows none of its levels, "
                f"found {self.dispersive:g}; choose --trunk unet1d"
            )
        return MeanFlowDecoder(self, net)


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
        """`loss_at` with draws from `rng`: two normals a row (times), one uniform (whether h > 0), noise, drop, cut."""
        c, batch = self.config, x.shape[0]
        times = torch.sigmoid(c.mean + c.spread * normal((batch, 2), rng))
        apart = uniform((batch,), rng) < c.share
        t = times.amin(1)
        h = torch.where(apart, times.amax(1) - t, 0)
        noise = normal(x.shape, rng, like=x)
        keep = uniform((batch,), rng).to(x.device) >= c.drop if c.drop else None
        cut = uniform((batch,), rng).to(x) if c.rule == "two_steps" else None
        return self.loss_at(ctx, x, weight=weight, t=t.to(x), h=h.to(x), noise=noise, keep=keep, cut=cut)

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
        cut: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """{mean_flow: mean over rows of L / (L + floor)^power}, L the row's square error, from t to t + h, (B,).

        And {dispersive} where it is asked for, over the rows that count. keep: (B,) bool, False where the context is
        dropped. cut: (B,) where two steps part, as a share of h, else in the middle. weight: (B, H) or like x; rows
        without any don't count. Rows of h exactly 0 have the velocity as target and cost one ordinary call. With power
        1 the value stays near 1 while the model improves.
        """
        c, x_t, velocity = self.config, interpolate(x, noise, t), x - noise
        ctx = ctx if keep is None else drop(ctx, keep)
        if c.guidance != 1:
            with torch.no_grad():
                own = full_precision(self.net)(x_t, self._times(t, torch.zeros_like(t)), ctx)
            velocity = c.guidance * velocity + (1 - c.guidance) * own
        error, levels, order = torch.empty_like(x), [], []
        for rule, taken in (self._near, h == 0), (self._far, h != 0):
            index = taken.nonzero()[:, 0]
            if len(index):
                parted = None if cut is None else cut[index]
                made, target, found = rule(
                    x_t[index], t[index], h[index], velocity[index], take_rows(ctx, index), parted
                )
                error = error.index_copy(0, index, (made - target) ** 2)
                levels.append(found)
                order.append(index)
        counted = torch.ones_like(error) if weight is None else _like(weight, error)
        L = (error * counted).flatten(1).sum(1)
        L = L / counted.flatten(1).sum(1).clamp_min(1) if c.per_entry else L
        rows = counted.flatten(1).amax(1) > 0
        terms = {"mean_flow": weighted_mean(L / (L.detach() + c.floor) ** c.power, rows)}
        if c.dispersive:
            rows = rows[torch.cat(order)]
            terms["dispersive"] = c.dispersive * dispersive([torch.cat(x)[rows] for x in zip(*levels, strict=True)])
        return terms

    def target(self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """u(x, t, h) with gradient, and v + h du/dt without; both from one pass, hence with one dropout mask."""
        return self._derivative(x, t, h, velocity, ctx)[:2]

    def two_steps(self, x: Tensor, t: Tensor, h: Tensor, cut: Tensor, ctx: Context) -> Tensor:
        """The mean velocity of a step of `cut` h and one of the rest, without gradient."""
        net = full_precision(self.net)
        with torch.no_grad():
            first, share = net(x, self._times(t, cut * h), ctx), expand_like(cut, x)
            middle = x + expand_like(cut * h, x) * first
            return share * first + (1 - share) * net(middle, self._times(t + cut * h, (1 - cut) * h), ctx)

    def _far(
        self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context, cut: Tensor | None
    ) -> tuple[Tensor, Tensor, Levels]:
        """u(x, t, h) with gradient, its target without, and the network's levels where they are used."""
        if self.config.rule == "derivative":
            return self._derivative(x, t, h, velocity, ctx)
        made, levels = self._called(x, t, h, ctx)
        return made, self.two_steps(x, t, h, torch.full_like(t, 0.5) if cut is None else cut, ctx), levels

    def _near(
        self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context, cut: Tensor | None
    ) -> tuple[Tensor, Tensor, Levels]:
        made, levels = self._called(x, t, h, ctx)
        return made, velocity, levels

    def _derivative(
        self, x: Tensor, t: Tensor, h: Tensor, velocity: Tensor, ctx: Context
    ) -> tuple[Tensor, Tensor, Levels]:
        with sdpa_kernel(SDPBackend.MATH):
            tangents = (velocity, torch.ones_like(t), -torch.ones_like(h))
            made = torch.func.jvp(lambda x, t, h: self._called(x, t, h, ctx), (x, t, h), tangents, has_aux=True)
        u, slope, levels = made[0], made[1], made[2]  # type: ignore[misc]
        return u, (velocity + expand_like(h, x) * slope).detach(), levels

    def _called(self, x: Tensor, t: Tensor, h: Tensor, ctx: Context) -> tuple[Tensor, Levels]:
        """u(x, t, h) and the network's levels, none unless they are used."""
        if not self.config.dispersive:
            return full_precision(self.net)(x, self._times(t, h), ctx), ()
        levels: list[Tensor] = []

        def call(x: Tensor, times: Tensor, ctx: Context) -> Tensor:
            y, found = self.net.with_levels(x, times, ctx)  # type: ignore[operator]
            levels.extend(found)
            return y

        return full_precision(self.net, call)(x, self._times(t, h), ctx), tuple(levels)

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
