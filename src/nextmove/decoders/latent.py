"""A latent variable around a decoder: what the context does not say (which way, whose style) is coded in z.

Conditional VAE as in ACT (Zhao et al. 2023, section IV-B). Shapes: B batch, H horizon, A action width, Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rng, normal
from nextmove.decoders.resampled import Outer


@dataclass(frozen=True)
class Latent:
    """A posterior q(z | x, context) and a decoder conditioned on [z, vector]; z = 0 when sampling.

    loss: the inner loss at [z, vector] + kl_weight KL(q | N(0, I)), z = mean + std eps; sample: the inner one at z = 0.
    """

    inner: Any
    """Config of the decoder, built for a context vector that is `latent` wider."""
    posterior: Any
    """Config whose `build(shape=, context=, latent=)` gives `(x, ctx, valid (B, H) bool) -> (mean, logvar) (B, Z)`."""
    latent: int = 32
    kl_weight: float = 10.0

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Latent:
        """The inner decoder sampled in another way; raises ConfigError naming what it has not."""
        inner = self.inner.with_sampling(solver, steps, guidance)
        return self if inner is self.inner else replace(self, inner=inner)

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> LatentDecoder:
        """The decoder of x (B, *shape)."""
        given = replace(context, vector=context.vector + self.latent)
        inner = self.inner.build(shape=shape, context=given)
        return LatentDecoder(self, inner, self.posterior.build(shape=shape, context=context, latent=self.latent))


class LatentDecoder(Outer):
    """The inner decoder's loss given z drawn from the posterior, plus kl_weight KL(q(z | x, ctx) | N(0, 1))."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"inner": None}

    def __init__(self, config: Latent, inner: nn.Module, posterior: nn.Module) -> None:
        super().__init__()
        self.config, self.inner, self.posterior = config, inner, posterior

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at` with eps drawn from `rng`, followed by the inner decoder's draws."""
        z, kl = self._posterior(ctx, x, weight, normal((x.shape[0], self.config.latent), rng, like=x))
        return {**self.inner.loss(_with_latent(ctx, z), x, weight=weight, rng=rng), "kl": kl}

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """What the inner decoder counts; kl is a mean over rows."""
        normal((shape[0], self.config.latent), rng)  # as drawn before the inner decoder's turn
        found: dict[str, Tensor] = self.inner.counted(weight, shape=shape, rng=rng)
        return found

    def loss_at(
        self, ctx: Context, x: Tensor, *, weight: Tensor | None = None, eps: Tensor, **draws: Any
    ) -> dict[str, Tensor]:
        """The inner decoder's terms and {kl}: z = mean + std eps, eps (B, Z); `draws` go to the inner `loss_at`.

        weight: (B, H) or like x; steps of weight 0 are padding, which the posterior does not see either.
        kl: kl_weight times the mean over rows of the sum over z.
        """
        z, kl = self._posterior(ctx, x, weight, eps)
        terms = self.inner.loss_at(_with_latent(ctx, z), x, weight=weight, **draws)
        return {**terms, "kl": kl}

    def _posterior(self, ctx: Context, x: Tensor, weight: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z and its weighted divergence from N(0, 1)."""
        mean, logvar = (part.to(x) for part in self.posterior(x, ctx, _valid(x, weight)))
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        return mean + (0.5 * logvar).exp() * eps.to(x), self.config.kl_weight * divergence

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        z: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """x (B, *shape) at z = 0, the centre of the prior, or at `z` (B, Z); `options` go to the inner decoder."""
        if z is None:
            weights = next(self.inner.parameters())
            z = weights.new_zeros(ctx.batch, self.config.latent)
        made: Tensor = self.inner.sample(_with_latent(ctx, z), shape=shape, rng=rng, known=known, **options)
        return made


def _with_latent(ctx: Context, z: Tensor) -> Context:
    """The context with z in front of its vector."""
    vector = z if ctx.vector is None else torch.cat([z, ctx.vector.to(z)], 1)
    return ctx.replace(vector=vector, null=None if ctx.null is None else _with_latent(ctx.null, z))


def _valid(x: Tensor, weight: Tensor | None) -> Tensor:
    """The steps (B, H) bool that are not padding."""
    if weight is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return (weight > 0).flatten(2).any(2) if weight.dim() > 2 else weight > 0
