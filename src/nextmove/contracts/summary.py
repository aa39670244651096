"""Moments and extremes of many numbers in float64, part by part: what scales need, without keeping the numbers.

Parts are joined by the formulas of Chan, Golub and LeVeque 1983 (update of mean and sum of squares in pairs), each
around a number of its own, so that nothing cancels and a constant has a spread of exactly 0.

Shapes: N numbers of a dimension, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK = 1 << 17
"""Numbers worked on at once: what a processor's own cache holds."""


@dataclass(frozen=True, eq=False)
class Summary:
    """`count` numbers a dimension: `mean`, sum of squared deviations `square`, smallest and largest (D,)."""

    count: float
    mean: Array
    square: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, values: Array, weight: Array | None = None) -> Summary:
        """Of values (N, D), each counted `weight` (N,) times; none of no value."""
        rows = max(1, BLOCK // max(1, values.shape[1]))
        parts = [slice(i, i + rows) for i in range(0, len(values), rows)]
        return total([_block(values[p], None if weight is None else weight[p]) for p in parts], values.shape[1])

    @classmethod
    def none(cls, width: int) -> Summary:
        """Of no number."""
        zero = np.zeros(width)
        return cls(0.0, zero, zero, zero + np.inf, zero - np.inf)

    def __add__(self, other: Summary) -> Summary:
        count = self.count + other.count
        if not self.count or not other.count:
            return other if other.count else self
        apart = other.mean - self.mean
        return Summary(
            count,
            self.mean + apart * (other.count / count),
            self.square + other.square + apart**2 * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> Array:
        """(D,) standard deviation."""
        return np.asarray(np.sqrt(self.square / self.count))


def total(parts: Iterable[Summary], width: int) -> Summary:
    """Of the numbers of all parts."""
    out = Summary.none(width)
    for part in parts:
        out = out + part
    return out


def beside(parts: Sequence[Summary]) -> Summary:
    """Dimensions side by side, of as many numbers each."""
    fields = ([getattr(part, name) for part in parts] for name in ("mean", "square", "low", "high"))
    return Summary(parts[0].count, *(np.concatenate(field) for field in fields))


def _block(values: Array, weight: Array | None) -> Summary:
    # Dimension by dimension, for sums along memory.
    columns = np.ascontiguousarray(values.T)
    if weight is not None:
        counted = weight > 0
        columns, weight = columns[:, counted], weight[counted].astype(np.float64)
    if not columns.shape[1]:
        return Summary.none(len(columns))
    low, high = columns.min(1).astype(np.float64), columns.max(1).astype(np.float64)
    origin = columns[:, :1].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused where it is used
        apart = np.subtract(columns, origin, dtype=np.float64)
        count = float(columns.shape[1] if weight is None else weight.sum())
        mean = (apart.sum(1) if weight is None else apart @ weight) / count
        apart -= mean[:, None]
        square = np.einsum("ij,ij->i", apart, apart if weight is None else apart * weight)
    return Summary(count, origin[:, 0] + mean, square, low, high)
