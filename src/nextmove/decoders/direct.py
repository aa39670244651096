"""Direct decoders: one network call names the answer, as a value (regression) or as a mixture of Gaussians.

The network reads only the context: x has width 0 and there is no time. Shapes: B batch, H horizon, A action width,
K modes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders.few_step import apply_known
from nextmove.decoders.one_call import OneCall, network
from nextmove.decoders.resampled import OneWay
from nextmove.decoders.sampling import draw


@dataclass(frozen=True)
class Regression(OneWay):
    """The mean ("mse") or the median ("l1") of x given the context: an answer nobody gave where answers differ.

    loss: mean |net(ctx) - x|^2, or mean |net(ctx) - x|; sample: net(ctx).
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    loss: Literal["mse", "l1"] = "mse"

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> RegressionDecoder:
        """The decoder of x (B, H, A)."""
        return RegressionDecoder(self, _network(self.trunk, shape, shape[-1], context))


class RegressionDecoder(OneCall):
    """A regression around `net(x (B, H, 0), None, ctx) -> (B, H, A)`."""

    config: Regression

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{mse or l1: `weight`}."""
        return {} if weight is None else {self.config.loss: weight}

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{mse or l1: the mean over the entries that `weight` (B, H) or like x counts}."""
        error = self.answer(ctx, x.shape[1]).to(x) - x
        error = error**2 if self.config.loss == "mse" else error.abs()
        return {self.config.loss: weighted_mean(error, weight)}

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """x (B, H, A), the same at every call; the known part is set at the end, `rng` and `noise` are not used."""
        return apply_known(self.answer(ctx, shape[0]), known)


@dataclass(frozen=True)
class Mixture(OneWay):
    """A mixture of diagonal Gaussians at each of the H steps (robomimic, Mandlekar et al. 2021).

    With (m_k, s_k, w_k) = net(ctx), the modes' means, spreads and weights, and z ~ N(0, I):
    loss: mean over steps of -log sum_k w_k N(x; m_k, s_k^2); sample: k ~ w, then m_k + low_noise z.

    Steps draw their modes independently: for plans of one piece give the whole chunk as one step, shape (1, H A).
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    modes: int = 5
    min_std: float = 1e-4
    """Least spread. A mode that turns sharp first can take all the data; about the data's own noise prevents that."""
    tanh: bool = False
    """Whether means are bounded to (-1, 1), as in robomimic, whose actions are."""
    low_noise_eval: bool = True
    """Samples have spread `low_noise` around the drawn mode's mean, instead of the mode's own."""
    low_noise: float = 1e-4

    def __post_init__(self) -> None:
        if self.modes < 1:
            raise ValueError(f"modes: expected at least 1, found {self.modes}")

    @property
    def reach(self) -> float:
        """Largest magnitude of a mean."""
        return 1.0 if self.tanh else math.inf

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> MixtureDecoder:
        """The decoder of x (B, H, A)."""
        return MixtureDecoder(self, _network(self.trunk, shape, self.modes * (2 * shape[-1] + 1), context))


class MixtureDecoder(OneCall):
    """A density around `net(x (B, H, 0), None, ctx) -> (B, H, K (2 A + 1))`: means, raw scales, logits."""

    config: Mixture

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{nll: the steps of which any value counts}."""
        if weight is None:
            return {}
        return {"nll": weight.amax(-1) > 0 if weight.dim() > len(shape) - 1 else weight}

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{nll: mean over steps of -log p(x), nats}; weight (B, H), or like x with 0 for values to leave out."""
        if weight is not None and weight.dim() == x.dim():
            return {"nll": -weighted_mean(self.log_prob(ctx, x, weight), weight.amax(-1) > 0)}
        return {"nll": -weighted_mean(self.log_prob(ctx, x), weight)}

    def log_prob(self, ctx: Context, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """log p (B, H) of x (B, H, A) in nats; values of weight 0 (like x) are integrated out."""
        mean, scale, logits = self.modes(ctx, x)
        z = (x[:, :, None] - mean) / scale
        each = -0.5 * z**2 - scale.log() - 0.5 * torch.log(torch.full_like(scale, 2 * torch.pi))
        each = each if weight is None else each * weight[:, :, None].to(each)
        return torch.logsumexp(logits.log_softmax(-1) + each.sum(-1), -1)

    def modes(self, ctx: Context, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means and scales (B, H, K, A), logits (B, H, K) for x like `like` (B, H, A)."""
        c, (_, horizon, A) = self.config, like.shape
        out: Any = self.answer(ctx, horizon).to(like)
        mean, raw, logits = out.split([c.modes * A, c.modes * A, c.modes], -1)
        mean, raw = (part.unflatten(-1, (c.modes, A)) for part in (mean, raw))
        return mean.tanh() if c.tanh else mean, F.softplus(raw) + c.min_std, logits

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        choice: Tensor | None = None,
    ) -> Tensor:
        """x (B, H, A): a mode drawn at each step, then noise; the known part is set at the end.

        choice: (B, H) uniform in [0, 1), instead of the first draw. noise: like x, instead of the second.
        """
        size = (ctx.batch, *shape)
        choice = uniform(size[:-1], rng) if choice is None else choice
        noise = normal(size, rng) if noise is None else noise
        # Float32 or wider, on the network's device, whatever autocast makes of its answer.
        probe = self.nothing(ctx, 0)
        like = probe.new_empty(size, dtype=torch.promote_types(probe.dtype, torch.float32))
        mean, scale, logits = self.modes(ctx, like)
        mode = draw(logits, choice.to(like.device))[..., None, None].expand(*size[:-1], 1, size[-1])
        mean, scale = (part.gather(2, mode)[:, :, 0] for part in (mean, scale))
        scale = torch.full_like(scale, self.config.low_noise) if self.config.low_noise_eval else scale
        return apply_known(mean + scale * noise.to(like), known)


def _network(trunk: Any, shape: tuple[int, ...], out: int, context: ContextSpec) -> nn.Module:
    if len(shape) != 2:
        raise ValueError(f"shape: expected (H, A), found {shape}")
    return network(trunk, shape[0], out, context)
