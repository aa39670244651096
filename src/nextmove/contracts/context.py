"""What a network is conditioned on, and the part of x that is decided already.

Shapes: B batch, S context length, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts.memory import Memory, MemorySpec


@dataclass(frozen=True)
class Context:
    """What a model is conditioned on.

    vector: (B, D); tokens: (B, S, D); mask: (B, S) bool, True where a token may be attended to;
    positions: (B, S, D), added to the tokens where they are queries and keys, never to values;
    memory: keys and values of a prefix that another network has read;
    place: where among the tokens a network may put some of its own, between what is seen and what is read;
    null: the unconditional context (needed by classifier-free guidance).
    """

    batch: int
    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    memory: Memory | None = None
    null: Context | None = None
    positions: Tensor | None = None
    place: int = 0

    @classmethod
    def empty(cls, batch: int) -> Context:
        """The context of `batch` rows that says nothing."""
        return cls(batch)

    def replace(self, **parts: Any) -> Context:
        """A copy with the named parts exchanged."""
        return replace(self, **parts)

    def map(self, function: Callable[[Tensor], Tensor]) -> Context:
        """A copy with `function` applied to every tensor, its batch re-read from the result."""

        def one(part: Tensor | None) -> Tensor | None:
            return None if part is None else function(part)

        memory = None if self.memory is None else self.memory.map(function)
        vector, tokens, mask, positions = one(self.vector), one(self.tokens), one(self.mask), one(self.positions)
        found = [vector, tokens, mask, None if memory is None else memory.count]
        batch = next((part.shape[0] for part in found if part is not None), self.batch)
        null = None if self.null is None else self.null.map(function)
        return Context(batch, vector, tokens, mask, memory, null, positions, self.place)

    def detach(self) -> Context:
        """The same context, frozen: no gradient flows back into the encoder."""
        return self.map(lambda part: part.detach())

    def repeat(self, n: int) -> Context:
        """Every row n times in place: row i becomes rows i n to i n + n - 1."""
        return replace(self.map(lambda x: x.repeat_interleave(n, 0)), batch=self.batch * n)

    def where(self, keep: Tensor, other: Context) -> Context:
        """Rows of this context where `keep` (B,) bool holds, of `other` elsewhere."""

        self._like(other)

        def either(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (mine.dim() - 1)), mine, theirs)

        def pick(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            return None if mine is None or theirs is None else either(mine, theirs)

        return replace(
            self,
            vector=pick(self.vector, other.vector),
            tokens=pick(self.tokens, other.tokens),
            mask=pick(self.mask, other.mask),
            positions=pick(self.positions, other.positions),
            memory=None if self.memory is None or other.memory is None else self.memory.join(other.memory, either),
        )

    def _like(self, other: Context) -> None:
        """Raises ValueError naming a part that only one of the two has: it would be lost without a word."""
        for name in ("vector", "tokens", "mask", "positions", "memory"):
            if (getattr(self, name) is None) != (getattr(other, name) is None):
                raise ValueError(f"context.{name}: expected in both contexts or in none, found in one")

    def cat(self, other: Context) -> Context:
        """Both contexts as one batch, this one's rows first."""

        self._like(other)

        def join(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            return None if mine is None or theirs is None else torch.cat([mine, theirs])

        def both(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.cat([mine, theirs])

        return Context(
            self.batch + other.batch,
            join(self.vector, other.vector),
            join(self.tokens, other.tokens),
            join(self.mask, other.mask),
            None if self.memory is None or other.memory is None else self.memory.join(other.memory, both),
            positions=join(self.positions, other.positions),
            place=self.place,
        )


@dataclass(frozen=True)
class ContextSpec:
    """The shapes a network may rely on: width of the vector, width and number of the tokens; 0 means absent."""

    vector: int = 0
    token: int = 0
    tokens: int = 0
    memory: MemorySpec | None = None
    """Sizes of a prefix's keys and values; None = there is none."""
    positions: bool = False
    """Whether tokens come with positions."""


@dataclass(frozen=True)
class Known:
    """The part of x decided already: `value` in the model's space, `weight` in [0, 1] (1 = fixed), both like x.

    For a policy both are in the robot's units, (B, n, A) with n up to its horizon, and `start` is the number of steps
    from now to the first row.
    """

    value: Tensor
    weight: Tensor
    start: int = 0
