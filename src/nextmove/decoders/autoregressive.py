"""Autoregressive decoder: one id after another, each drawn given all before it.

Letters: B batch, L tokens, K classes. Losses and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Known, Rng, uniform, weighted_mean
from nextmove.decoders.sampling import Sampling, allow, draw

Allowed = Tensor | Callable[[int, Tensor], Tensor]
"""(L, K) bool, or a function of the position i and the ids (B, i) before it to (K,) or (B, K) bool."""


@dataclass(frozen=True)
class Autoregressive:
    """A categorical distribution at each of L positions."""

    trunk: Any
    """Config of the network (contracts.TokenTrunk)."""
    classes: int
    temperature: float = 1.0
    """0 takes the likeliest id."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes in the loss."""

    @property
    def sampling(self) -> Sampling:
        """How an id is chosen from its logits."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p)

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes: expected at least 1, found {self.classes}")
        _ = self.sampling

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> AutoregressiveDecoder:
        """The decoder of ids (B, L), shape (L,)."""
        if len(shape) != 1:
            raise ValueError(f"shape: expected (L,), found {shape}")
        net = self.trunk.build_tokens(length=shape[0], classes=self.classes, context=context)
        return AutoregressiveDecoder(self, net)


class AutoregressiveDecoder(nn.Module):
    """A generative rule around the causal `net(ids, ctx, cache) -> (logits, cache)`; the id K starts a sequence."""

    def __init__(self, config: Autoregressive, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at`; nothing is drawn."""
        return self.loss_at(ctx, x, weight=weight)

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{nll: mean cross entropy a token} of ids x (B, L).

        weight: (B, L), or (B, n) with n a divisor of L, each counting for L / n ids in a row (one action step).
        """
        logits = self._logits(ctx, x)
        error = F.cross_entropy(logits.mT, x, label_smoothing=self.config.smoothing, reduction="none")
        if weight is not None and weight.shape[1] != x.shape[1]:
            if x.shape[1] % weight.shape[1]:
                raise ValueError(f"weight: expected a divisor of {x.shape[1]} columns, found {weight.shape[1]}")
            weight = weight.repeat_interleave(x.shape[1] // weight.shape[1], 1)
        return {"nll": weighted_mean(error, weight)}

    def log_prob(self, ctx: Context, ids: Tensor) -> Tensor:
        """log p (B, L) of each id given those before it, at temperature 1 and without filters."""
        return self._logits(ctx, ids).log_softmax(-1).gather(-1, ids[..., None])[..., 0]

    def _logits(self, ctx: Context, ids: Tensor) -> Tensor:
        """(B, L, K) in float32 or wider, position i given the ids before i."""
        told = torch.cat([self._start(ids), ids[:, :-1]], 1)
        return _wide(self.net(told, ctx, None)[0])

    def _start(self, ids: Tensor) -> Tensor:
        return ids.new_full((ids.shape[0], 1), self.config.classes)

    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        allowed: Allowed | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """ids (B, L) int64, shape (L,); arguments as in `stream`."""
        ids = self.stream(ctx, shape=shape, rng=rng, known=known, noise=noise, allowed=allowed, sampling=sampling)
        return torch.stack(list(ids), 1)

    def stream(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        allowed: Allowed | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[Tensor]:
        """The ids (B,) position by position, known ones included.

        known: ids (B, L) and weights; those above .5 are fixed, wherever they stand. The prefix known in all rows is
        read in one call, then one id a call. noise: (B, L) uniform in [0, 1), the quantiles of the ids' distributions;
        drawn at once, before the first call, so that they don't depend on what is known.
        allowed: classes that may be drawn, applied before temperature and filters. sampling: instead of the config's.
        """
        (length,) = shape
        sampling = self.config.sampling if sampling is None else sampling
        ids, fixed, prefix = self._known(ctx, length, known)
        yield from ids[:, :prefix].unbind(1)
        noise = uniform((ctx.batch, length), rng) if noise is None else noise
        noise, cache = noise.to(ids.device), None
        told = torch.cat([self._start(ids), ids[:, :prefix]], 1)
        for i in range(prefix, length):
            with torch.no_grad():
                logits, cache = self.net(told, ctx, cache)
                logits = _wide(logits[:, -1])
                if allowed is not None:
                    mask = allowed[i] if isinstance(allowed, Tensor) else allowed(i, ids[:, :i])
                    logits = allow(logits, mask.to(logits.device))
                drawn = draw(sampling.filter(logits), noise[:, i])
                told = torch.where(fixed[:, i], ids[:, i], drawn)[:, None]
                ids = torch.cat([ids[:, :i], told, ids[:, i + 1 :]], 1)
            yield told[:, 0]

    def _known(self, ctx: Context, length: int, known: Known | None) -> tuple[Tensor, Tensor, int]:
        """ids (B, L), which of them are fixed, and the length of the prefix fixed in all rows."""
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        ids = torch.zeros(ctx.batch, length, dtype=torch.long, device=device)
        fixed = torch.zeros_like(ids, dtype=torch.bool)
        if known is None:
            return ids, fixed, 0
        for name, part in (("value", known.value), ("weight", known.weight)):
            if part.shape != ids.shape:
                raise ValueError(f"known.{name}: expected shape {tuple(ids.shape)}, found {tuple(part.shape)}")
        fixed = known.weight.to(device) > 0.5
        ids = torch.where(fixed, known.value.to(ids), ids)
        if bool((fixed & ((ids < 0) | (ids >= self.config.classes))).any()):
            raise ValueError(f"known.value: expected ids from 0 to {self.config.classes - 1}, found others")
        return ids, fixed, int(fixed.all(0).long().cumprod(0).sum())


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
