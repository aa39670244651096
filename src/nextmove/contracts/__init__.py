"""What the rooms of the house say to each other: contexts, known parts, chunks, draws and the protocols around them.

Letters: B batch, T observation steps, H horizon, A action width, L tokens, S context length, D width.
Time runs from noise (t = 0) to data (t = 1) everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nextmove.contracts.memory import KeyValue as KeyValue
from nextmove.contracts.memory import Memory as Memory
from nextmove.contracts.memory import MemorySpec as MemorySpec

Batch = Mapping[str, Any]
Cache = tuple[tuple[Tensor, Tensor], ...]
"""What a recurrent network carries on; a transformer carries a `Memory`."""


@dataclass(frozen=True)
class Rows:
    """One generator per row, so that a row's draws do not depend on the rows beside it."""

    generators: Sequence[torch.Generator]


@dataclass(frozen=True)
class Shard:
    """This rank's rows of draws made for the whole global batch, so that they do not depend on the number of ranks.

    masks: of the whole global batch, by name: a mean over what a mask counts is divided by the whole's count.
    """

    generator: torch.Generator
    rank: int
    world: int
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self, whole: Tensor) -> Tensor:
        """This rank's rows of a tensor for the whole batch."""
        size = len(whole) // self.world
        return whole[self.rank * size : (self.rank + 1) * size]

    def fork(self) -> torch.Generator:
        """A generator that draws for the whole batch what comes next here, which it leaves alone."""
        other = torch.Generator()
        other.set_state(self.generator.get_state())
        return other


Rng = torch.Generator | Rows | Shard


def seeded(*seeds: int) -> torch.Generator:
    """A CPU generator whose state is a function of all the non-negative integers given, in order."""
    import numpy as np

    # Trailing zeros do not change a seed sequence; their number in front does.
    state = np.random.SeedSequence((len(seeds), *seeds)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def _draw(kind: str, shape: Sequence[int], rng: Rng) -> Tensor:
    if isinstance(rng, Rows):
        if len(rng.generators) != shape[0]:
            raise ValueError(f"rng: expected one generator for each of {shape[0]} rows, found {len(rng.generators)}")
        return torch.stack([_draw(kind, shape[1:], g) for g in rng.generators])
    if isinstance(rng, Shard):
        return rng.rows(_draw(kind, (shape[0] * rng.world, *shape[1:]), rng.generator))
    draw: Tensor = getattr(torch, kind)(tuple(shape), generator=rng)
    return draw


def normal(shape: Sequence[int], rng: Rng, *, like: Tensor | None = None) -> Tensor:
    """Standard normal draws of `shape` (rows first), made on the CPU in float32, then moved to be like `like`."""
    draw = _draw("randn", shape, rng)
    return draw if like is None else draw.to(like)


def uniform(shape: Sequence[int], rng: Rng, *, like: Tensor | None = None) -> Tensor:
    """Uniform draws in [0, 1) of `shape` (rows first), made on the CPU in float32, then moved to be like `like`."""
    draw = _draw("rand", shape, rng)
    return draw if like is None else draw.to(like)


@dataclass(frozen=True)
class Context:
    """What a model is told before it generates.

    vector: (B, D); tokens: (B, S, D); mask: (B, S) bool, True where a token may be attended to;
    memory: keys and values of a prefix that another network has read;
    null: what the model is told when it is told nothing (needed by classifier-free guidance).
    """

    batch: int
    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    memory: Memory | None = None
    null: Context | None = None

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
        vector, tokens, mask = one(self.vector), one(self.tokens), one(self.mask)
        found = [vector, tokens, mask, None if memory is None else memory.count]
        batch = next((part.shape[0] for part in found if part is not None), self.batch)
        return Context(batch, vector, tokens, mask, memory, None if self.null is None else self.null.map(function))

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
            memory=None if self.memory is None or other.memory is None else self.memory.join(other.memory, either),
        )

    def _like(self, other: Context) -> None:
        """Raises ValueError naming a part that only one of the two has: it would be lost without a word."""
        for name in ("vector", "tokens", "mask", "memory"):
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
        )


@dataclass(frozen=True)
class ContextSpec:
    """The shapes a network may rely on: width of the vector, width and number of the tokens; 0 means absent."""

    vector: int = 0
    token: int = 0
    tokens: int = 0
    memory: MemorySpec | None = None
    """Sizes of a prefix's keys and values; None = there is none."""


@dataclass(frozen=True)
class Known:
    """The part of x decided already: `value` in the model's space, `weight` in [0, 1] (1 = fixed), both like x."""

    value: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Chunk:
    """A plan: `actions` (B, H, A) in the robot's units, one every `dt` seconds, the first due when it was observed."""

    actions: Tensor
    dt: float


class Trunk(Protocol):
    """A network config that a decoder completes with what only the decoder knows."""

    def build(self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool) -> nn.Module:
        """A network `(x (B, *shape), t (B, times), ctx) -> y`, y like x but `out` wide.

        For sequences `shape` is (H, A) and y is (B, H, out); A = 0 gives a network that only reads the context.
        For images `shape` is (C, height, width) and y is (B, out, height, width).
        """
        ...


class TokenTrunk(Protocol):
    """A network config for sequences of class indices."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> nn.Module:
        """A causal network `(ids (B, L), ctx, cache | None) -> (logits (B, L, classes), cache)`.

        `logits[:, i]` predicts the id after `ids[:, i]`; the id `classes` is the start symbol, which a network built
        with `start=False` never reads.
        """
        ...


@runtime_checkable
class Codec(Protocol):
    """An invertible map between data and the space a model generates in; its state is saved inside the model."""

    def encode(self, raw: Tensor) -> Tensor:
        """Data to model space."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Model space to data."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """A generative rule around a network."""

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms whose sum is the loss; `weight` broadcasts to x (or its positions), None counts all."""
        ...

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """By term, the weights (B, ...) over which `loss` on x of `shape`, with this `rng`, takes its mean.

        Terms that are means over all rows alike are left out.
        """
        ...

    def sample(self, ctx: Context, *, shape: Sequence[int], rng: Rng, known: Known | None = None) -> Tensor:
        """x of shape (B, *shape), B from the context."""
        ...


class ObservationError(ValueError):
    """An observation that cannot be acted upon: of `row` of the batch (-1: of all), `ago` steps before the latest."""

    def __init__(self, problem: str, *, row: int = -1, ago: int = 0) -> None:
        step = f"{ago} steps before the latest" if ago else "the latest step"
        super().__init__(problem if row < 0 else f"{problem} (row {row}, {step})")
        self.problem, self.row, self.ago = problem, row, ago


class Trainable(Protocol):
    """What the training loop sees."""

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms whose sum is the loss."""
        ...


class Actor(Protocol):
    """What turns observations into plans; observations are (B, T, ...) in raw units under LeRobot's feature names."""

    @property
    def n_obs_steps(self) -> int:
        """Observations each plan is made from."""
        ...

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each plan."""
        ...

    @property
    def horizon(self) -> int:
        """Actions predicted."""
        ...

    def act(self, obs: Batch, *, rng: Rng, previous: Chunk | None = None) -> Chunk:
        """A plan whose first action is due at the last observed step."""
        ...


@dataclass(frozen=True)
class Optim:
    """How a recipe wants to be trained (a run may override each)."""

    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    warmup: int = 200
    """Steps of linear warm-up before the cosine."""
    batch: int = 256
    """Windows a step over all processes."""
    clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    ema: float = 0.9999
    """Cap of the averaged weights' decay 1 - (1 + step)^-0.75; 0 switches averaging off."""


def weighted_mean(error: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of `error` (B, ...) over the entries that `weight` (broadcast from the left) counts; 0 if none."""
    if weight is None:
        return error.mean()
    weight = weight.to(error.dtype)
    weight = weight.reshape(*weight.shape, *[1] * (error.dim() - weight.dim())).expand_as(error)
    return (error * weight).sum() / weight.sum().clamp_min(torch.finfo(error.dtype).tiny)


def counts(model: Any, batch: Batch, rng: Rng) -> dict[str, float]:
    """By term of the model's loss on this batch, how much its mean counts, where it tells; else that is the rows."""
    told = getattr(model, "counts", None)
    return {} if told is None else {name: float(count) for name, count in told(batch, rng=rng).items()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The loss: the sum of its named terms."""
    return torch.stack(list(terms.values())).sum()
