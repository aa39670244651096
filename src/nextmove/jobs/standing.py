"""How much of an action relative to the state says where the robot goes, and how much how far it stops short.

A joint is at s while it is sent to a. The difference a - s that a relative plan begins with has two parts: the lag of a
joint that is on its way, which follows from how command and joint move, and an offset that does not (a load it stops
short under, a push, play, noise). With L the lag and r the rest,

    a_t - s_t = L_t + r_t,   L linear in a_(t-1) - a_(t-2), a_t - a_(t-1), a_(t+1) - a_t and s_t - s_(t-1).

Scaled by its own spread, the target that is due now says L with the noise r: log2(1 + var L / var r) / 2 bits of a
Gaussian channel, less than half a bit where r is the larger part. A plan that loses r sends the joint to s + L, so it
moves by r at every step, and where r is larger than L that is more than it is meant to. Absolute targets have no r.

Shapes: N frames, A action width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextmove import data
from nextmove.codecs.scaled import constant
from nextmove.data.tables import Array

LOOKED_AT = 1 << 16
"""Frames that are looked at."""
FEWEST = 100
"""Frames from which there is something to say."""
EVEN = 0.5
"""Share of the difference at which offset and lag are of one size."""


def offsets(dataset: data.Dataset, reference: str, match: Sequence[int]) -> Array:
    """(A,) share of a - s that is offset, var r / var (a - s), by dimension of the action.

    match: column of the state for each of the action's, -1 for those that stay absolute. 0: for these, where action or
    difference never change, and of too few frames.
    """
    start, stop = (bound[dataset.episodes] for bound in (dataset.episode_from, dataset.episode_to))
    end = np.cumsum(stop - start)
    picks = np.linspace(0, len(dataset) - 1, min(len(dataset), LOOKED_AT)).astype(np.int64)
    place = np.searchsorted(end, picks, side="right")
    rows = stop[place] - (end[place] - picks)
    rows = rows[(rows - 2 >= start[place]) & (rows + 1 < stop[place])]
    shares = np.zeros(len(match))
    if len(rows) < FEWEST:
        return shares
    actions, states = (dataset.floats([name])[name].reshape(dataset.num_frames, -1) for name in ("action", reference))
    for i, j in enumerate(match):
        if j >= 0:
            around = [actions[rows + k, i].astype(np.float64) for k in (-2, -1, 0, 1)]
            shares[i] = offset(np.stack(around), states[rows, j].astype(np.float64), states[rows - 1, j])
    return shares


def offset(command: Array, state: Array, before: Array) -> float:
    """The share of one joint: command (4, N) two steps and one before, now and one after; state (N,) now and before."""
    apart, size = command[2] - state, float(np.abs(command).max())
    if not np.isfinite(apart).all() or constant(command.min(), command.max()):
        return 0.0
    if constant(apart.min(), apart.max(), size):
        return 0.0
    moves = np.stack([*np.diff(command, axis=0), state - before, np.ones(len(state))], 1)
    lag = moves @ np.linalg.lstsq(moves, apart, rcond=None)[0]
    return float((apart - lag).var() / apart.var())
