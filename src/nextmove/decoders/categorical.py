"""Classes side by side: one network call says how likely each id is at each position, and no id depends on another.

Shapes: B batch, L positions, K classes. Losses and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, uniform, weighted_mean
from nextmove.decoders.one_call import OneCall, network
from nextmove.decoders.resampled import OneWay
from nextmove.decoders.sampling import Sampling


@dataclass(frozen=True)
class Categorical(OneWay):
    """A distribution over K classes at each of L positions, independent given the context (RT-1, Brohan et al. 2022).

    loss: mean over i of -log p_i(x_i), p = softmax(net(ctx)); sample: every x_i ~ p_i, in one call.
    """

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    classes: int = 256
    sampling: Sampling = Sampling(temperature=0.0)
    """How an id is chosen from its logits."""
    smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes in the loss."""

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes: expected at least 2, found {self.classes}")

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> CategoricalDecoder:
        """The decoder of ids (B, L), shape (L,)."""
        if len(shape) != 1:
            raise ValueError(f"shape: expected (L,), found {shape}")
        return CategoricalDecoder(self, network(self.trunk, shape[0], self.classes, context))


class CategoricalDecoder(OneCall):
    """Classes around `net(x (B, L, 0), None, ctx) -> (B, L, K)`."""

    config: Categorical

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{nll: the positions that count}."""
        return {} if weight is None else {"nll": _by_position(weight, shape[1])}

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{nll: mean cross entropy of ids x (B, L)}.

        weight: (B, L), or (B, n) with n a divisor of L, each counting for L / n positions in a row (one action step).
        """
        logits = self.logits(ctx, x.shape[1])
        error = F.cross_entropy(
            logits.flatten(0, 1), x.flatten(), label_smoothing=self.config.smoothing, reduction="none"
        )
        return {"nll": weighted_mean(error.view_as(x), None if weight is None else _by_position(weight, x.shape[1]))}

    def logits(self, ctx: Context, length: int) -> Tensor:
        """(B, L, K) in float32 or wider."""
        found = self.answer(ctx, length)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """ids (B, L) int64; those known with a weight above .5 are set at the end.

        noise: (B, L) uniform in [0, 1), the quantiles of the ids' distributions. sampling: instead of the config's.
        """
        (length,), sampling = shape, self.config.sampling if sampling is None else sampling
        noise = uniform((ctx.batch, length), rng) if noise is None else noise
        logits = self.logits(ctx, length)
        ids = sampling.choose(logits.flatten(0, 1), noise.to(logits.device).flatten()).view(ctx.batch, length)
        if known is None:
            return ids
        return torch.where(known.weight.to(ids.device) > 0.5, known.value.to(ids), ids)


def _by_position(weight: Tensor, length: int) -> Any:
    if length % weight.shape[1]:
        raise ValueError(f"weight: expected a divisor of {length} columns, found {weight.shape[1]}")
    return weight.repeat_interleave(length // weight.shape[1], 1)
