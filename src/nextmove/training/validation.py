"""The loss on held-out batches, always with the same noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from nextmove.contracts import Batch, Trainable, counts, seeded
from nextmove.training.distributed import World
from nextmove.training.parts import batch_size, to
from nextmove.training.step import VALIDATION, autocast


class Validation:
    """Mean loss terms over fixed batches, weighted by what each mean counts; batch i draws from (seed, i, 3)."""

    def __init__(
        self, batches: Iterable[Batch], *, seed: int, world: World, device: torch.device, mixed: bool = False
    ) -> None:
        self.batches = list(batches)
        self.seed, self.world, self.device, self.mixed = seed, world, device, mixed

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The terms, with the model in evaluation mode (its mode is given back)."""
        mode = model.training
        model.eval()
        sums: dict[str, float] = {}
        total: dict[str, float] = {}
        try:
            for index, batch in enumerate(self.batches):
                mine = index % self.world.size == self.world.rank
                # Batch 0 tells every process the names of the terms, so that all sum over the same ones; where weights
                # lie in shares, each has to be there whenever one calls the model.
                if not mine and index and not self.world.sharded:
                    continue
                placed, rng = to(batch, self.device), seeded(self.seed, index, VALIDATION)
                with autocast(self.device, self.mixed):
                    terms = cast(Trainable, model).loss(placed, rng=rng)
                counted = counts(model, placed, seeded(self.seed, index, VALIDATION))
                for name, value in terms.items():
                    count = counted.get(name, batch_size(batch)) if mine else 0.0
                    sums[name] = sums.get(name, 0.0) + float(value) * count
                    total[name] = total.get(name, 0.0) + count
        finally:
            model.train(mode)
        values, weights = self.world.sum(list(sums.values())), self.world.sum(list(total.values()))
        # Where nothing counts every mean is 0.
        return {name: value / max(weight, 1e-30) for name, value, weight in zip(sums, values, weights, strict=True)}
