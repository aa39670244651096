"""Endless shuffled batches whose content depends on seed and step alone.

Shapes: N windows, B global batch, b = B / world rows of this process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import Batch, Rng, Shard, seeded
from nextmove.data.errors import DataError
from nextmove.data.shuffle import Shuffle
from nextmove.data.tables import Array
from nextmove.host.signals import unheard


class Source(Protocol):
    """Rows to train on, gathered many at once."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """These rows, each value a tensor (B, ...) or a list of B strings."""
        ...


Augment = Callable[[dict[str, Any], Rng], dict[str, Any]]


class Loader:
    """Batches of steps start, start + 1, ... without end.

    The batch of step s holds positions s B to (s + 1) B of all epochs' shuffles laid end to end, so every window comes
    once an epoch and a run resumes exactly with start = s. Rank r of `world` gets rows r b to (r + 1) b of it.
    workers: processes that prepare batches ahead; they change nothing but speed, and pay only where videos are decoded:
    windows of numbers are gathered faster than they can be sent. They are torch's, not those of `host.workers`: forked
    with the windows, they hand batches over in shared memory.
    augment(batch, rng): applied last; drawing rows from `rng` (a `contracts.Shard` seeded by (seed, step, 1)) with
    `contracts.normal` or `uniform` gives the same rows whatever the number of ranks.
    """

    def __init__(
        self,
        windows: Source,
        batch: int = 256,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        augment: Augment | None = None,
    ) -> None:
        if not len(windows):
            raise DataError("windows: expected at least one, found none")
        if batch < 1 or batch % world:
            raise DataError(f"batch: expected a positive multiple of world = {world}, found {batch}")
        if not 0 <= rank < world:
            raise DataError(f"rank: expected 0 to {world - 1}, found {rank}")
        self.windows, self.batch, self.seed, self.start = windows, batch, seed, start
        self.rank, self.world, self.workers, self.augment = rank, world, workers, augment
        self._epochs: dict[int, Shuffle] = {}

    def indices(self, step: int) -> Array:
        """The windows (b,) of this rank at a step."""
        size = self.batch // self.world
        count, first = len(self.windows), step * self.batch + self.rank * size
        places = np.arange(first, first + size)
        epochs = places // count
        wanted = range(int(epochs[0]), int(epochs[-1]) + 1)
        self._epochs = {e: self._epochs[e] if e in self._epochs else Shuffle(count, self.seed, e) for e in wanted}
        out = np.empty(size, np.int64)
        for epoch, order in self._epochs.items():
            here = epochs == epoch
            out[here] = order[places[here] - epoch * count]
        return out

    def step(self, step: int) -> dict[str, Any]:
        """This rank's batch of a step."""
        batch: dict[str, Any] = dict(self.windows.batch(self.indices(step)))
        if self.augment is None:
            return batch
        return self.augment(batch, Shard(seeded(self.seed, step, 1), self.rank, self.world))

    def __iter__(self) -> Iterator[Batch]:
        steps = itertools.count(self.start)
        if not self.workers:
            return map(self.step, steps)
        # The generator keeps torch from drawing the workers' base seed out of the caller's global random state.
        own = torch.Generator().manual_seed(self.seed)
        with unheard():
            return iter(
                torch.utils.data.DataLoader(
                    _Steps(self),
                    batch_size=None,
                    sampler=steps,
                    num_workers=self.workers,
                    prefetch_factor=4,
                    generator=own,
                )
            )


class _Steps(torch.utils.data.Dataset[dict[str, Any]]):
    """Batches by step number, for worker processes."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self.loader.step(step)
