"""Rules of older checkpoints, as decoders around a decoder.

Shapes: B batch, H horizon, A action width, Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Rng
from nextmove.decoders.resampled import Outer


@dataclass(frozen=True)
class MeanOverPadding:
    """The inner decoder's loss summed over what the weight counts, but divided by all positions, padding included.

    LeRobot's masked losses up to release 0.5.1.
    """

    inner: Any
    """Config of the decoder."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> OverAllDecoder:
        """The decoder of x (B, *shape)."""
        return OverAllDecoder(self.inner.build(shape=shape, context=context))


class OverAllDecoder(Outer):
    """Scales every term by the share of positions that count."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"inner": None}

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """The inner decoder's terms."""
        return _scaled(self.inner.loss(ctx, x, weight=weight, rng=rng), weight)

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """Nothing: every term is a sum over all positions, as many in every part of a batch."""
        return {}

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None, **draws: Any) -> dict[str, Tensor]:
        """The inner decoder's terms with its draws given."""
        return _scaled(self.inner.loss_at(ctx, x, weight=weight, **draws), weight)

    def sample(self, ctx: Context, *, shape: Sequence[int], rng: Rng, **options: Any) -> Tensor:
        """x (B, *shape) as the inner decoder makes it."""
        made: Tensor = self.inner.sample(ctx, shape=shape, rng=rng, **options)
        return made


def _scaled(terms: dict[str, Tensor], weight: Tensor | None) -> dict[str, Tensor]:
    return terms if weight is None else {name: term * weight.to(term).mean() for name, term in terms.items()}


@dataclass(frozen=True)
class ZeroLatent:
    """A decoder that reads z = 0 in front of the context's vector, in training too: ACT without its posterior."""

    inner: Any
    """Config of the decoder, built for a context vector that is `latent` wider."""
    latent: int = 32

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> ZeroLatentDecoder:
        """The decoder of x (B, *shape)."""
        given = replace(context, vector=context.vector + self.latent)
        return ZeroLatentDecoder(self.inner.build(shape=shape, context=given), self.latent)


class ZeroLatentDecoder(Outer):
    """The inner decoder at the centre of the prior."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"inner": None}

    def __init__(self, inner: nn.Module, latent: int) -> None:
        super().__init__()
        self.inner, self.latent = inner, latent

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """The inner decoder's terms."""
        terms: dict[str, Tensor] = self.inner.loss(self._with_zeros(ctx), x, weight=weight, rng=rng)
        return terms

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """What the inner decoder counts."""
        found: dict[str, Tensor] = self.inner.counted(weight, shape=shape, rng=rng)
        return found

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None, **draws: Any) -> dict[str, Tensor]:
        """The inner decoder's terms with its draws given."""
        terms: dict[str, Tensor] = self.inner.loss_at(self._with_zeros(ctx), x, weight=weight, **draws)
        return terms

    def sample(self, ctx: Context, *, shape: Sequence[int], rng: Rng, **options: Any) -> Tensor:
        """x (B, *shape) as the inner decoder makes it."""
        made: Tensor = self.inner.sample(self._with_zeros(ctx), shape=shape, rng=rng, **options)
        return made

    def _with_zeros(self, ctx: Context) -> Context:
        zeros = next(self.inner.parameters()).new_zeros(ctx.batch, self.latent)
        return ctx.replace(vector=zeros if ctx.vector is None else torch.cat([zeros, ctx.vector.to(zeros)], 1))
