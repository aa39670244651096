"""The numbers of a few training batches in memory, as statistics are taken of them.

Shapes: B batch, T observation steps, D feature width, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from nextmove.contracts import Batch
from nextmove.contracts.summary import Array, Summary


class Batches:
    """`contracts.Numbers` of batches that are there already; of a data set, `jobs.scales.Columns`."""

    def __init__(self, batches: Collection[Batch]) -> None:
        if not len(batches):
            raise ValueError("fit: expected at least one batch of training windows, found none")
        self.batches = batches

    def observed(
        self, names: Sequence[str], steps: int, levels: tuple[float, float] | None
    ) -> tuple[Summary, Array | None]:
        """Of features side by side (D,) over their last `steps` observations; with quantiles (2, D) if asked."""
        return _found(
            [torch.cat([b[name][:, -steps:] for name in names], -1).flatten(0, -2) for b in self.batches], levels
        )

    def acted(self, per_step: bool, levels: tuple[float, float] | None) -> tuple[Summary, Array | None]:
        """Of the actions over the whole horizon (A,), or at each of its steps (H A,)."""
        found = [b["action"].flatten(1) if per_step else b["action"].flatten(0, 1) for b in self.batches]
        return _found(found, levels)

    def parts(self) -> Iterator[Batch]:
        """The batches."""
        return iter(self.batches)


def _found(values: list[torch.Tensor], levels: tuple[float, float] | None) -> tuple[Summary, Array | None]:
    found = Summary.none(values[0].shape[1])
    for part in values:
        found = found + Summary.of(part.numpy())
    if levels is None:
        return found, None
    return found, np.quantile(torch.cat(values).double().numpy(), levels, axis=0)
