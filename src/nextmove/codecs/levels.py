"""Actions as RT-1 writes them: evenly spaced values, and choices among a few things as one id each.

Shapes: B batch, H horizon, A columns, N ids of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.codecs.bins import Bins


class Levels(Bins):
    """One of `bins` values from low to high of each column, both ends among them (Brohan et al. 2022, its code).

    The id of a value is (value - low) / (high - low) (bins - 1), cut off, and stands for low + id (high - low) /
    (bins - 1): what is decoded is at most one step lower. A choice is several columns in a row, one for each thing that
    can be chosen, the largest of which is written as one id; decoded to `high` in its column and `low` in the others,
    the first where the id is none of theirs.
    """

    def __init__(
        self,
        *,
        bins: int = 256,
        width: int = 1,
        choices: Sequence[tuple[int, int]] = (),
        ranges: Sequence[tuple[float, float]] = (),
    ) -> None:
        """choices: first column and number of each; ranges: low and high of each column, which no data change.

        Raises ValueError for choices that overlap or lie outside of the columns, and ranges that are not one a column.
        """
        super().__init__(bins=bins, width=width)
        self.choices, self.fixed = dict(choices), bool(ranges)
        taken = [column for first, count in choices for column in range(first, first + count)]
        if len({*taken}) < len(taken) or not {*taken} <= {*range(width)} or any(n < 2 for _, n in choices):
            raise ValueError(f"choices: expected two columns or more each, apart and below {width}, found {choices}")
        if ranges:
            found = torch.tensor(ranges)
            if found.shape != (width, 2) or not bool((found[:, 0] < found[:, 1]).all()):
                raise ValueError(f"ranges: expected low and high of each of {width} columns, found {list(ranges)}")
            self.low.copy_(found[:, 0])
            self.high.copy_(found[:, 1])

    @property
    def parts(self) -> list[tuple[int, int]]:
        """First column and number of columns of each id."""
        found, column = [], 0
        while column < self.width:
            found.append((column, self.choices.get(column, 1)))
            column += found[-1][1]
        return found

    @property
    def ids(self) -> int:
        """N."""
        return len(self.parts)

    def fit(self, values: Tensor, *, margin: float = 0.0) -> None:
        """As of `Bins`; ranges that are given stay."""
        if not self.fixed:
            super().fit(values, margin=margin)

    def by_id(self, weight: Tensor) -> Tensor:
        """What counts (B, H, A) column by column as (B, H N), id by id: a choice as its least column."""
        return torch.stack([weight[..., i : i + count].amin(-1) for i, count in self.parts], -1).flatten(1)

    def encode(self, raw: Tensor) -> Tensor:
        """Values (B, H, A) to ids (B, H N) int64, step by step; values outside are clamped and counted."""
        self.check(raw)
        single = torch.tensor([first for first, count in self.parts if count == 1], device=raw.device)
        own = raw[..., single]
        low, high = self.low[single], self.high[single]
        self.count(own, low, high)
        width = high - low
        place = torch.where(width > 0, (own.clamp(low, high) - low) / width, 0.5) * (self.bins - 1)
        # The columns of a choice are compared among themselves.
        chosen = [raw[..., first : first + count].argmax(-1) for first, count in self.parts if count > 1]
        numbers, picks = iter(place.long().unbind(-1)), iter(chosen)
        rows = [next(numbers) if count == 1 else next(picks) for _, count in self.parts]
        return torch.stack(rows, -1).flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, H N) to values (B, H, A); raises ValueError for an id that is none."""
        columns = []
        for (first, count), ids in zip(self.parts, self.by_step(x).unbind(-1), strict=True):
            if count == 1:
                place = ids.to(self.low)[..., None] / (self.bins - 1)
            else:
                place = F.one_hot(torch.where(ids < count, ids, 0), count).to(self.low)
            low, high = self.low[first : first + count], self.high[first : first + count]
            columns.append(place * (high - low) + low)
        return torch.cat(columns, -1)
