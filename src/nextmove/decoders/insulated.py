"""Knowledge insulation: an expert that reads a language model and does not change it, which learns to write actions.

The language model is trained by next-token prediction of actions, as FAST's tokens or number by number in bins, the
expert by its own rule; what the expert would tell the language model is stopped at the prefix (Driess et al. 2025,
"Knowledge Insulating Vision-Language-Action Models").

Shapes: B batch, H horizon, A action width, K bins, L ids, H A of them in bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rng
from nextmove.decoders.autoregressive import Autoregressive
from nextmove.decoders.resampled import Outer


@dataclass(frozen=True)
class Insulated:
    """A decoder that reads a prefix's memory, and one that writes the same actions as ids behind that prefix.

    loss: that of `inner` with the memory as a constant, plus `share` times the mean cross entropy of the ids; sample:
    the inner one.
    """

    inner: Any
    """Config of the decoder that acts (pi0.5: `Flow` around an `Expert`)."""
    words: Autoregressive
    """The decoder of ids, in the encoder's language model (`nn.continued.Continued`), with as many classes as bins, or
    as FAST has pieces and an end (`Autoregressive.ends`)."""
    share: float = 1.0
    numbers: int = 0
    """Of each action the first so many are written in bins; 0 = all."""

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Insulated:
        """The inner decoder sampled in another way; raises ConfigError naming what it has not."""
        inner = self.inner.with_sampling(solver, steps, guidance)
        return self if inner is self.inner else replace(self, inner=inner)

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> InsulatedDecoder:
        """The decoder of x (B, H, A); raises ValueError without the memory of a prefix."""
        if context.memory is None:
            raise ValueError("context.memory: expected that of a prefix, which is insulated, found none")
        horizon, width = shape
        words = self.words.build(shape=(horizon * (self.numbers or width),), context=context)
        return InsulatedDecoder(self, self.inner.build(shape=shape, context=context), words)


class InsulatedDecoder(Outer):
    """The inner decoder's loss on a constant memory, plus that of ids."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"inner": None}

    words: Any
    _spelling: tuple[Any, ...] = ()

    def __init__(self, config: Insulated, inner: nn.Module, words: nn.Module) -> None:
        super().__init__()
        self.config, self.inner, self.words = config, inner, words

    def spell(self, tokens: Any) -> None:
        """Writes actions by these `FastTokens`, which are a part of the codec, from now on; None: in bins."""
        # In a tuple they are no part of this module: they are fitted and saved where they stand.
        self._spelling = () if tokens is None else (tokens,)

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """The inner decoder's terms and {words}: `share` times the mean cross entropy of x in ids."""
        assert ctx.memory is not None
        apart = ctx.replace(memory=ctx.memory.map(Tensor.detach))
        terms: dict[str, Tensor] = self.inner.loss(apart, x, weight=weight, rng=rng)
        own = None if self.config.words.ends else self._weight(weight, x.shape)
        found = self.words.loss_at(ctx, self.ids(x), weight=own)
        return {**terms, "words": self.config.share * found["nll"]}

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """What each of the two counts."""
        found: dict[str, Tensor] = self.inner.counted(weight, shape=shape, rng=rng)
        own = None if self.config.words.ends else self._weight(weight, shape)
        return found if own is None else {**found, "words": own}

    def ids(self, x: Tensor) -> Tensor:
        """FAST's ids (B, L) of scaled actions with -1 behind their ends, or the bins of those scaled to [-1, 1],
        nearest ones; what is beyond is in the last."""
        if self._spelling:
            (tokens,) = self._spelling
            found: Tensor = tokens.encode(x[..., : tokens.width])
            return found
        if self.config.words.ends:
            raise ValueError("words: expected a tokenizer of actions (`spell`), found none")
        chosen = x[..., : self.config.numbers or x.shape[-1]]
        last = self.config.words.classes - 1
        return ((chosen.clamp(-1, 1) + 1) * (last / 2)).round().long().flatten(1)

    def _weight(self, weight: Tensor | None, shape: Sequence[int]) -> Tensor | None:
        if weight is None:
            return None
        weight = weight[..., None] if weight.dim() == 2 else weight
        wide = weight.expand(*weight.shape[:2], shape[-1])
        return wide[..., : self.config.numbers or shape[-1]].flatten(1)

    @torch.no_grad()
    def sample(
        self, ctx: Context, *, shape: Sequence[int], rng: Rng, known: Known | None = None, **options: Any
    ) -> Tensor:
        """x (B, *shape) of the inner decoder."""
        made: Tensor = self.inner.sample(ctx, shape=shape, rng=rng, known=known, **options)
        return made
