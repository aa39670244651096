"""Episodes recognised by their outline where rounding, other units or thinning changed every number.

Shapes: S selected episodes, W columns of all features together, K numbers of an outline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nextmove.contracts import TASK
from nextmove.data.dataset import Dataset
from nextmove.data.tables import Array
from nextmove.host.threads import cores, threaded

PARTS = (2, 4, 2)
"""How many directions the first frame, the mean and the last frame of an episode are looked at along."""
UNITS = 200
"""Steps of an outline's numbers in one spread of the data."""
CLOSE = 2
"""Steps, one hundredth of the spread, that all numbers of two outlines of one episode lie apart at most."""


def outlines(dataset: Dataset, observations: Sequence[str], action: str = "action") -> dict[str, Any]:
    """What is kept of episodes: centre and spread (W,) of their means, and an outline (S, K) each, in hexadecimal."""
    points = _points(dataset, observations, action)
    centre, spread = points[:, 1].mean(0), points.reshape(-1, points.shape[2]).std(0)
    shape = _outlined(points, centre, spread)
    return {"centre": centre.tolist(), "spread": spread.tolist(), "episodes": shape.astype(">i2").tobytes().hex()}


def resembling(
    dataset: Dataset, known: Mapping[str, Any], observations: Sequence[str], action: str = "action"
) -> Array:
    """(S,) bool: which selected episodes have the outline of one of those kept."""
    centre, spread = np.array(known["centre"]), np.array(known["spread"])
    points = _points(dataset, observations, action)
    if points.shape[2] != len(centre):
        return np.zeros(len(points), bool)
    kept = np.frombuffer(bytes.fromhex(known["episodes"]), ">i2").reshape(-1, sum(PARTS)).astype(np.int64)
    own = _outlined(points, centre, spread)
    return np.array([bool((np.abs(kept - one) <= CLOSE).all(1).any()) for one in own])


def _points(dataset: Dataset, observations: Sequence[str], action: str) -> Array:
    """(S, 3, W) first frame, mean and last frame of every selected episode."""
    names = [*sorted(name for name in observations if name != TASK), action]
    columns = dataset.floats(names)
    first, last = dataset.episode_from[dataset.episodes], dataset.episode_to[dataset.episodes]

    out = np.empty((len(first), 3, sum(int(np.prod(columns[name].shape[1:])) for name in names)))

    def look(some: Array) -> None:
        for i in some.tolist():
            parts = [columns[name][first[i] : last[i]].reshape(last[i] - first[i], -1) for name in names]
            out[i, 0] = np.concatenate([part[0] for part in parts])
            # Numbers of a dimension side by side, for a sum along memory.
            sums = [np.ascontiguousarray(part.T).sum(1, dtype=np.float64) for part in parts]
            out[i, 1] = np.concatenate(sums) / (last[i] - first[i])
            out[i, 2] = np.concatenate([part[-1] for part in parts])

    threaded(look, np.array_split(np.arange(len(first)), max(1, min(len(first), cores()))))
    return out


def _outlined(points: Array, centre: Array, spread: Array) -> Array:
    """(S, K) int64 in steps of the spread, along fixed directions; what never moves or is no number says nothing."""
    x = np.divide(points - centre, spread, out=np.zeros_like(points), where=spread > 0)
    rng = np.random.Generator(np.random.PCG64(2))
    directions = [rng.normal(size=(x.shape[2], count)) for count in PARTS]
    x = np.nan_to_num(x, posinf=0, neginf=0)
    seen = [x[:, i] @ (d / np.linalg.norm(d, axis=0)) for i, d in enumerate(directions)]
    return np.round(np.concatenate(seen, 1) * UNITS).clip(-(2**15), 2**15 - 1).astype(np.int64)
