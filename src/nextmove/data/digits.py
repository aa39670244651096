"""What numbers lose when they are stored or computed in a narrower type: the one rule of reader, writer and doctor.

A float is meant to be rounded, by a part in 2^24 as float32; a whole number is not. Beyond 2^24 float32 leaves out
whole numbers, so that counters stand still and seconds since 1970 come in steps of 128.

Shapes: N frames, D numbers of a feature.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nextmove.data.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]

COARSE = 1e-3
"""Share of a dimension's range by which rounding may move its numbers."""


class Rounding:
    """How far float32 moves the numbers of a feature, and over what range they go; parts are added one by one."""

    def __init__(self) -> None:
        self.lost = self._low = self._high = np.zeros(0)
        """lost: (D,) largest distance of a number from its float32."""

    def add(self, values: Array, cast: Array) -> None:
        """Numbers (N, D) and what they became; those not finite are passed over."""
        if not len(values):
            return
        wide = values.reshape(len(values), -1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            lost = np.abs(wide - cast.reshape(len(cast), -1))
        bad = ~np.isfinite(lost)
        low, high = np.where(bad, np.inf, wide).min(0), np.where(bad, -np.inf, wide).max(0)
        lost = np.where(bad, 0.0, lost).max(0)
        if not len(self.lost):
            self.lost, self._low, self._high = lost, low, high
            return
        self.lost, self._low = np.maximum(self.lost, lost), np.minimum(self._low, low)
        self._high = np.maximum(self._high, high)

    @property
    def extent(self) -> Array:
        """(D,) range of the numbers."""
        return np.maximum(self._high - self._low, 0.0)

    @property
    def size(self) -> Array:
        """(D,) largest absolute number."""
        return np.maximum(np.abs(self._low), np.abs(self._high))

    def coarse(self) -> list[int]:
        """The dimensions of whose changes too little is left."""
        return [int(d) for d in np.flatnonzero((self.lost > COARSE * self.extent) & (self.extent > 0))]


def rounding(values: Array, cast: Array | None = None) -> Rounding:
    """The rounding of numbers (N, ...) to `cast`, or to float32."""
    out = Rounding()
    with np.errstate(over="ignore"):
        out.add(values, values.astype(np.float32) if cast is None else cast)
    return out


def refuse_lost(values: Array, cast: Array, where: str) -> None:
    """Raises `DataError` where floats `cast` are other numbers than the `values` (N, ...) they were made of.

    Whole numbers must be kept exactly; floats beyond the largest whole number of the type by a thousandth of their
    range.
    """
    if cast.dtype.kind != "f" or values.dtype.kind not in "iuf" or values.dtype.itemsize < cast.dtype.itemsize:
        return
    bits = np.finfo(cast.dtype).nmant + 1
    if values.dtype.kind != "f":
        whole = values.reshape(len(values), -1) if len(values) else values.reshape(0, 1)
        lost = np.argwhere(~_held(whole, bits))
        if len(lost):
            row, d = lost[0]
            raise DataError(
                f"{where}: expected whole numbers that {cast.dtype} holds, found {whole[row, d]} in dimension {d}; "
                f"declare dtype int64 or float64, or subtract where the counting began"
            )
        return
    if values.dtype == cast.dtype or not np.any(np.abs(values) >= 2.0**bits):
        return
    found = rounding(values, cast)
    for d in found.coarse():
        if found.size[d] >= 2.0**bits:
            raise DataError(
                f"{where}: {cast.dtype} rounds dimension {d} by {found.lost[d]:.3g} of a range of "
                f"{found.extent[d]:.3g}; declare dtype float64, or subtract what never changes"
            )


def _held(values: Array, bits: int) -> Array:
    """Which whole numbers a float of so many bits holds exactly: those whose odd factor has no more."""
    size = np.where(values < 0, ~values.astype(np.int64), 0).astype(np.uint64) + np.uint64(1)
    size = np.where(values < 0, size, values.astype(np.uint64))
    lowest = size & (~size + np.uint64(1))
    held: Array = size // np.maximum(lowest, np.uint64(1)) < np.uint64(1 << bits)
    return held
