"""The loss on held-out batches, always with the same noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from nextmove.contracts import Batch, Trainable, seeded
from nextmove.training.distributed import World
from nextmove.training.parts import rows, to
from nextmove.training.step import VALIDATION, autocast


class Validation:
    """Mean loss terms over fixed batches, each row counting the same; batch i draws from the seed (seed, i, 3)."""

    def __init__(self, batches: Iterable[Batch], *, seed: int, world: World, device: torch.device, mixed: bool) -> None:
        self.batches = list(batches)
        self.seed, self.world, self.device, self.mixed = seed, world, device, mixed

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The terms, with the model in evaluation mode (its mode is given back)."""
        mode = model.training
        model.eval()
        sums: dict[str, float] = {}
        try:
            for index, batch in enumerate(self.batches):
                mine = index % self.world.size == self.world.rank
                # Batch 0 tells every process the names of the terms, so that all sum over the same ones.
                if not mine and index:
                    continue
                rng = seeded(self.seed, index, VALIDATION)
                with autocast(self.device, self.mixed):
                    terms = cast(Trainable, model).loss(to(batch, self.device), rng=rng)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + (float(value) * rows(batch) if mine else 0.0)
        finally:
            model.train(mode)
        total = sum(rows(batch) for batch in self.batches)
        return {n: v / total for n, v in zip(sums, self.world.sum(list(sums.values())), strict=True)}
