"""The numbers of a data set's training windows as statistics are taken of them, without making the windows.

Shapes: B windows of a part, D width of a feature, H horizon, A action width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from nextmove.codecs.shifted import quantiles, summaries
from nextmove.contracts import Batch
from nextmove.contracts.summary import Array, Summary, beside, total
from nextmove.data import Windows
from nextmove.training.parts import numbers

VALUES = 1 << 20
"""Numbers of the windows that are in memory at once."""
LOOKED_AT = 1 << 18
"""Windows that are made at most: of more, as many evenly out of all."""


class Columns:
    """`contracts.Numbers` of all windows of a data set, exact, in memory that does not grow with them.

    What is shown as it is comes from the columns, whatever the horizon; only what is computed from several features
    needs windows, which are made without cameras. They take time, so of a set of millions some stand for all.
    """

    def __init__(self, windows: Windows) -> None:
        if not len(windows):
            raise ValueError("fit: expected at least one training window, found none")
        self.windows = copy.copy(windows)
        self.windows.observations = tuple(n for n in windows.observations if n not in windows.cameras)
        self.windows.cameras = ()

    def observed(
        self, names: Sequence[str], steps: int, levels: tuple[float, float] | None
    ) -> tuple[Summary, Array | None]:
        """Of features side by side (D,) over their last `steps` observations; with quantiles (2, D) if asked."""
        return self._found(names, self.windows.obs_offsets[-steps:].tolist(), False, levels)

    def acted(self, per_step: bool, levels: tuple[float, float] | None) -> tuple[Summary, Array | None]:
        """Of the actions over the whole horizon (A,), or at each of its steps (H A,)."""
        return self._found([self.windows.action], self.windows.action_offsets.tolist(), per_step, levels)

    def parts(self) -> Iterator[Batch]:
        """All windows in order, a few at a time; of more than `LOOKED_AT` as many, evenly out of all."""
        one = sum(v.numel() for v in numbers(self.windows.batch([0])).values())
        picks = np.linspace(0, len(self.windows) - 1, min(len(self.windows), LOOKED_AT)).astype(np.int64)
        for part in np.array_split(picks, -(-len(picks) * one // VALUES)):
            yield self.windows.batch(part)

    def _found(
        self, names: Sequence[str], offsets: list[int], per_step: bool, levels: tuple[float, float] | None
    ) -> tuple[Summary, Array | None]:
        """Of features side by side, at all offsets together or at each on its own."""
        windows, found, ranked = self.windows, [], []
        groups = [[k] for k in offsets] if per_step else [offsets]
        for name in names:
            column = windows.columns[name]
            at = dict(zip(offsets, summaries(column, windows.start, windows.stop, offsets), strict=True))
            found.append(beside([total((at[k] for k in group), column.shape[1]) for group in groups]))
            if levels:
                one = quantiles(column, windows.start, windows.stop, groups, levels)
                ranked.append(one.transpose(1, 0, 2).reshape(len(levels), -1))
        return beside(found), np.concatenate(ranked, 1) if ranked else None
