"""Numbers of a feature that are likely to break training: the checks that the doctor and training share.

They look at the selected frames and cost a pass over the feature or less.
Shapes: N frames of the whole set, D numbers of a feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nextmove.data.dataset import Dataset
from nextmove.data.digits import Rounding
from nextmove.data.tables import Array
from nextmove.host.threads import threaded

FAR = 2.0
"""Distances q99 - q01 beyond those quantiles from which an action counts as out of range."""
SAMPLED = 100_000
"""Frames, evenly out of all, whose quantiles are taken."""
BLOCK = 1 << 16
"""Rows looked at together."""
CACHED = 1 << 13
"""Rows that a processor's own cache holds."""
EPS = float(np.finfo(np.float32).eps)

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One finding of the doctor; an error breaks reading or training, a warning may be intended."""

    level: Level
    check: str
    message: str
    feature: str | None = None
    episode: int | None = None
    frame: int | None = None
    file: Path | None = None

    def __str__(self) -> str:
        named = [("", self.feature), ("episode ", self.episode), ("frame ", self.frame), ("", self.file)]
        places = ", ".join(f"{word}{value}" for word, value in named if value is not None)
        return f"{self.level}: {self.check}: {self.message}" + (f" ({places})" if places else "")


def at(dataset: Dataset, row: int, level: Level, check: str, message: str, feature: str) -> Finding:
    """A finding about a feature at a row, said as episode and frame."""
    episode = int(dataset.table.of_rows(np.array([row]))[0])
    return Finding(level, check, message, feature, episode, row - int(dataset.episode_from[episode]))


def suspects(dataset: Dataset, names: Sequence[str]) -> list[Finding]:
    """What is suspicious about these features in the selected frames, as models read them."""
    columns = dataset.floats(names)

    def one(name: str) -> list[Finding]:
        values = columns[name].reshape(dataset.num_frames, -1)
        return list(feature(dataset, name, values, dataset.rounding.get(name, Rounding())))

    return [finding for found in threaded(one, names) for finding in found]


def feature(dataset: Dataset, name: str, values: Array, lost: Rounding) -> Iterator[Finding]:
    """What is suspicious about values (N, D), of which float32 lost so much."""
    still = _still(dataset, values)
    if still:
        yield Finding("warning", "constant", f"never changes in dimension {', '.join(still)}", name)
    for d in lost.coarse():
        text = f"models compute in float32, which rounds dimension {d} by {lost.lost[d]:.3g} of a range of "
        yield Finding("warning", "precision", f"{text}{lost.extent[d]:.3g}; subtract what never changes", name)
    yield from _far(dataset, name, values)


def _still(dataset: Dataset, values: Array) -> list[str]:
    """Dimensions that never change, with their values."""
    first, left = None, np.arange(values.shape[1])
    for part in dataset.spans(BLOCK):
        first = values[part.start] if first is None else first
        left = left[(values[part][:, left] == first[left]).all(0)]
        if not len(left):
            break
    return [] if first is None else [f"{d} = {first[d]:g}" for d in left.tolist()]


def _far(dataset: Dataset, name: str, values: Array) -> Iterator[Finding]:
    """Numbers far outside the quantiles of their dimension: typing errors, lost packets, wrong units.

    Of actions all are suspicious; of observations those beside which the others cannot be distinguished.
    """
    parts = list(dataset.spans(BLOCK))
    if not parts:
        return
    step = max(1, len(dataset) // SAMPLED)
    sample = np.concatenate([values[part][::step] for part in parts]).astype(np.float64)
    low, high = np.stack([_quantiles(x) for x in sample.T], 1)
    reach = FAR * (high - low)
    smallest, largest = _extremes(values, list(dataset.spans(CACHED)))
    for d in np.flatnonzero((reach > 0) & ((smallest < low - reach) | (largest > high + reach))).tolist():
        count, row, spread = _outside(parts, values[:, d], low[d], high[d])
        lost = high[d] - low[d] < EPS * spread
        if not count or not (lost or name.split(".")[0] == "action"):
            continue
        text = (
            f"{count} frames far outside [{low[d]:.4g}, {high[d]:.4g}] in dimension {d}, the first {values[row, d]:.4g}"
        )
        text += "; scaled to its spread all others are one number" if lost else ""
        yield at(dataset, row, "error" if lost else "warning", "range", text, name)


def _extremes(values: Array, parts: Sequence[slice]) -> tuple[Array, Array]:
    """The smallest and largest number (D,) of each dimension, NaN passed over."""
    lows, highs = [], []
    for part in parts:
        columns = np.ascontiguousarray(values[part].T)  # along memory it is nine times as fast
        lows.append(np.fmin.reduce(columns, axis=1))
        highs.append(np.fmax.reduce(columns, axis=1))
    return np.fmin.reduce(lows), np.fmax.reduce(highs)


def _quantiles(x: Array) -> Array:
    finite = x[np.isfinite(x)]
    return np.quantile(finite, [0.01, 0.99]) if len(finite) else np.zeros(2)


def _outside(parts: Sequence[slice], column: Array, low: float, high: float) -> tuple[int, int, float]:
    """How many numbers lie far outside, the row of the first, and the standard deviation with them."""
    count, first, square, total, reach = 0, 0, 0.0, 0, FAR * (high - low)
    for part in parts:
        x = column[part].astype(np.float64)
        far = np.flatnonzero((x < low - reach) | (x > high + reach))
        first = part.start + int(far[0]) if len(far) and not count else first
        count, total = count + len(far), total + len(x)
        x = x[np.isfinite(x)] - (low + high) / 2
        square += float(x @ x)
    return count, first, (square / max(total, 1)) ** 0.5
