"""A shuffle of many rows of which the first is known before all of them are sorted."""

from __future__ import annotations

import numpy as np

from nextmove.data.tables import Array

PARTS = 5
"""Bits of a draw that say in which part of a large shuffle its row comes."""
LARGE = 1 << 20
"""Rows from which a shuffle is sorted in parts: sorting ten million at once takes a second before the first step."""
BLOCK = 1 << 20
"""Rows looked at at once."""


class Shuffle:
    """A shuffle of range(count): the order of `count` raw 64-bit draws, which numpy promises never to change.

    Of a large one the draws are sorted by 32nds, each when a place in it is first asked for.
    """

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        self._draws = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(count)
        self._bits = PARTS if count >= LARGE else 0
        sizes = [np.bincount(self._parts(first), minlength=1 << self._bits) for first in range(0, count, BLOCK)]
        self._end = np.cumsum(np.sum(sizes, 0, dtype=np.int64))
        self._sorted: tuple[int, Array] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, places: Array) -> Array:
        """The rows (n,) at places (n,)."""
        parts = np.searchsorted(self._end, places, side="right")
        out = np.empty(len(places), np.int64)
        for part in np.unique(parts).tolist():
            here = parts == part
            out[here] = self._part(part)[places[here] - (self._end[part - 1] if part else 0)]
        return out

    def _part(self, part: int) -> Array:
        """The rows of a part in their order; the last one asked for is kept."""
        if self._sorted[0] != part:
            blocks = range(0, len(self._draws), BLOCK)
            rows = np.concatenate([first + np.flatnonzero(self._parts(first) == part) for first in blocks])
            self._sorted = part, rows[_order(self._draws[rows])]
        return self._sorted[1]

    def _parts(self, first: int) -> Array:
        """The parts (at most BLOCK,) of the rows from `first` on."""
        draws = self._draws[first : first + BLOCK]
        found: Array = (draws >> np.uint64(64 - PARTS) if self._bits else np.zeros_like(draws)).astype(np.int64)
        return found


def _order(draws: Array) -> Array:
    order = np.argsort(draws)  # several times as fast as a stable sort, and the same where no two draws are equal
    ranked = draws[order]
    return np.argsort(draws, kind="stable") if (ranked[1:] == ranked[:-1]).any() else order
