"""Random draws: every one comes from an `rng` argument and is made on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """One generator per row, so that a row's draws do not depend on the rows beside it."""

    generators: Sequence[torch.Generator]


@dataclass(frozen=True)
class Shard:
    """This rank's rows of draws made for the whole global batch, so that they do not depend on the number of ranks.

    masks: of the whole global batch, by name: a mean over what a mask counts is divided by the whole's count.
    features: of the whole global batch, by name and without gradient: what a loss compares with rows of other ranks.
    """

    generator: torch.Generator
    rank: int
    world: int
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self, whole: Tensor) -> Tensor:
        """This rank's rows of a tensor for the whole batch."""
        size = len(whole) // self.world
        return whole[self.rank * size : (self.rank + 1) * size]

    def joined(self, name: str, own: Tensor) -> Tensor:
        """The features of the whole batch with this rank's `own` (B, ...) in their place.

        Own rows get `world` times the gradient, so that the mean over the ranks is the gradient of the whole batch's
        loss, whose value every rank computes. Raises ValueError for features that nobody has gathered.
        """
        if name not in self.features:
            raise ValueError(
                f"{name}: expected features of the whole batch to compare with, found none; a model whose loss "
                "compares rows has `compared(batch)`, which gives them"
            )
        others, first = self.features[name].to(own), self.rank * len(own)
        if own.requires_grad:
            own = own.view_as(own)
            own.register_hook(lambda grad: grad * self.world)  # type: ignore[no-untyped-call]
        return torch.cat([others[:first], own, others[first + len(own) :]])

    def fork(self) -> torch.Generator:
        """A generator that draws for the whole batch what comes next here, which it leaves alone."""
        other = torch.Generator()
        other.set_state(self.generator.get_state())
        return other


Rng = torch.Generator | Rows | Shard


def joined(name: str, own: Tensor, rng: Rng) -> Tensor:
    """`own` (B, ...) where it is of the whole batch, else the whole batch's features with them in their place."""
    return rng.joined(name, own) if isinstance(rng, Shard) else own


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
