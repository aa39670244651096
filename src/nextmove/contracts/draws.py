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
