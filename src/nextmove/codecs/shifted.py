"""Statistics of a column's windows at each of their offsets, computed from the column without making windows.

At offset k >= 0 every frame of an episode but the first k comes once, and the last one as often again as it has to
stand for frames beyond the end; at offsets below 0 the other way round. So the offsets of a horizon differ by a few
frames an episode.

Shapes: N frames, D dimensions, S episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nextmove.contracts.summary import BLOCK, Array, Summary, total
from nextmove.host.threads import threaded

Rows = Callable[[int], Array]


def summaries(column: Array, start: Array, stop: Array, offsets: Sequence[int]) -> list[Summary]:
    """Of column (N, D) at each of the offsets from every frame of the episodes [start, stop) (S,), held inside them."""
    after, before = max(0, *offsets), max(0, *(-k for k in offsets))
    core = _spans(column, start + after, stop - before)
    tail = _spans(column, np.maximum(start + after, stop - before), stop)
    head = _spans(column, start, np.minimum(start + after, stop - before))
    found = dict(enumerate(_side(column, start, stop, after, core + tail)))
    found |= {-k: one for k, one in enumerate(_side(column, start, stop, -before, core + head)) if k}
    return [found[k] for k in offsets]


def _side(column: Array, start: Array, stop: Array, furthest: int, core: Summary) -> list[Summary]:
    """Of offsets 0, 1, ... (or 0, -1, ...) to the furthest, at which the frames of `core` come once."""
    length, most = stop - start, abs(furthest)
    edge = column[np.maximum(stop - 1, 0) if furthest > 0 else np.minimum(start, len(column) - 1)] if most else None
    found, once = [], core
    for k in range(most, -1, -1):
        if k < most:
            there = length > k
            once = once + Summary.of(column[start[there] + k if furthest > 0 else stop[there] - 1 - k])
        held = once if edge is None else once + Summary.of(edge, np.minimum(length, k))
        found.append(held)
    return found[::-1]


def _spans(column: Array, start: Array, stop: Array) -> Summary:
    """Of the rows of all spans [start, stop), a block at a time; those that end before they start are empty."""
    stop = np.maximum(start, stop)
    end, rows = np.cumsum(stop - start), max(1, BLOCK // column.shape[1])

    def one(first: int) -> Summary:
        place = np.arange(first, min(first + rows, int(end[-1])))
        span = np.searchsorted(end, place, side="right")
        return Summary.of(column[stop[span] - (end[span] - place)])

    return total(threaded(one, range(0, int(end[-1]) if len(end) else 0, rows)), column.shape[1])


def quantiles(
    column: Array, start: Array, stop: Array, groups: Sequence[Sequence[int]], levels: Sequence[float]
) -> Array:
    """(G, L, D) exact, linear between neighbours: of what column (N, D) holds at the offsets of each of G groups."""
    out = np.empty((len(groups), len(levels), column.shape[1]))
    for d in range(column.shape[1]):
        order = np.argsort(column[:, d], kind="stable")
        ranked = column[order, d]
        for g, offsets in enumerate(groups):
            times = np.zeros(len(column), np.int64)
            for k in offsets:
                times += _times(len(column), start, stop, k)
            upto = np.cumsum(times[order])
            place = (upto[-1] - 1) * np.asarray(levels)
            below, above = (ranked[np.searchsorted(upto, f(place), side="right")] for f in (np.floor, np.ceil))
            out[g, :, d] = below + (above.astype(np.float64) - below) * (place % 1)
    return out


def _times(frames: int, start: Array, stop: Array, offset: int) -> Array:
    """(N,) how often each frame comes at an offset."""
    out, length = np.zeros(frames + 1, np.int64), stop - start
    far = np.minimum(abs(offset), length)
    # Differences, since episodes do not overlap.
    begin, end = (start + far, stop) if offset >= 0 else (start, stop - far)
    np.add.at(out, begin, 1)
    np.add.at(out, end, -1)
    out = np.cumsum(out[:-1])
    some = length > 0
    out[(stop - 1 if offset >= 0 else start)[some]] += far[some]
    return out
