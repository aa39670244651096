"""What codecs of ids have in common that write each number of an action as one class.

Shapes: B batch, H horizon, A action width, N ids of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Counted(nn.Module):
    """`bins` classes for each of `width` numbers in a range, outside of which values are clamped and counted."""

    clamped: Tensor
    seen: Tensor

    def __init__(self, *, bins: int, width: int, low: float, high: float) -> None:
        """Raises ValueError for fewer than 2 bins, for no width, and for a range that is none."""
        super().__init__()
        for name, found, least in (("bins", bins, 2), ("width", width, 1)):
            if found < least:
                raise ValueError(f"{name}: expected at least {least}, found {found}")
        if not low < high:
            raise ValueError(f"low: expected less than high ({high}), found {low}")
        self.bins, self.width = bins, width
        self.register_buffer("clamped", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return self.bins

    @property
    def ids(self) -> int:
        """N."""
        return self.width

    @property
    def outside(self) -> float:
        """Share of the values encoded so far that lay outside the range."""
        return float(self.clamped / self.seen.clamp_min(1))

    def by_id(self, weight: Tensor) -> Tensor:
        """What counts (B, H, A) column by column as (B, H N), id by id."""
        return weight.flatten(1)

    def count(self, values: Tensor, low: Tensor | float, high: Tensor | float) -> None:
        """Counts values, and those outside of low to high."""
        self.clamped += ((values < low) | (values > high)).sum()
        self.seen += values.numel()

    def check(self, values: Tensor) -> None:
        """Raises ValueError for values of another width, or not finite."""
        if values.shape[-1] != self.width:
            raise ValueError(f"values: expected a last dimension of width {self.width}, found {values.shape[-1]}")
        if not bool(values.isfinite().all()):
            raise ValueError("values: expected finite numbers, found NaN or infinity")

    def by_step(self, x: Tensor) -> Tensor:
        """ids (B, H N) step by step, (B, H, N); raises ValueError for another number of ids and ids that are none."""
        if x.shape[-1] % self.ids:
            what = f"width {self.width}" if self.ids == self.width else str(self.ids)
            raise ValueError(f"x: expected a multiple of {what} ids a row, found {x.shape[-1]}")
        if bool(((x < 0) | (x >= self.bins)).any()):
            raise ValueError(f"x: expected ids from 0 to {self.bins - 1}, found {int(x.min())} to {int(x.max())}")
        return x.reshape(*x.shape[:-1], -1, self.ids)
