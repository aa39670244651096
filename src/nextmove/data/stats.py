"""Statistics of a data set: float64 moments that merge exactly, and quantiles of all frames.

They differ from LeRobot's on purpose. LeRobot computes moments as E[x^2] - E[x]^2 in float32 (a constant 300.1 gets a
deviation) and stores, as q01 to q99 of a set, the mean of its episodes' quantiles, which is no quantile of anything.
Here moments follow Chan et al. 1983 (pairwise update of mean and sum of squares) around a shifted origin, and the
quantiles of numbers are order statistics of all frames, interpolated linearly. Layout and keys are LeRobot's.

Shapes: N frames, D width of the last axis, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmove.data.depth import LEVELS
from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.host.threads import threaded

if TYPE_CHECKING:
    from nextmove.data.dataset import Dataset

Stats = dict[str, dict[str, Array]]
"""Feature -> {min, max, mean, std, count, q01, q10, q50, q90, q99}: (D,), cameras (C, 1, 1) in [0, 1], count (1,).

Those of depth cameras, (1, 1, 1), are in the unit in which they were recorded.
"""

SCANNED = 1 << 16
"""Rows looked at together."""
COLOURS = np.arange(256) / 255
"""What the values of a colour mean."""
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def describe(values: Array, name: str = "values") -> dict[str, Array]:
    """Exact statistics (D,) of (N,) or (N, ..., D) numbers over everything but the last axis; (N,) counts as D = 1.

    Raises `DataError` naming the frame of the first number that is not finite.
    """
    frames = len(values)
    if frames == 0:
        raise DataError(f"{name!r}: no frames to describe")
    bad = first_bad(values)
    if bad is not None:
        raise DataError(f"{name!r}: frame {bad} holds a number that is not finite: {values[bad]}")
    flat = values.reshape(frames, 1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
    columns = [_describe_one(flat[:, d].astype(np.float64)) for d in range(flat.shape[1])]
    keys = ("min", "max", "mean", "std", *QUANTILES)
    out = {key: np.array([column[i] for column in columns]) for i, key in enumerate(keys)}
    return {**out, "count": np.array([frames])}


def _describe_one(x: Array) -> list[float]:
    shifted = x - x[0]
    mean = shifted.mean()
    std = np.sqrt(np.square(shifted - mean).mean())
    return [x.min(), x.max(), x[0] + mean, std, *np.quantile(x, list(QUANTILES.values()))]


def first_bad(values: Array) -> int | None:
    """The first frame of (N, ...) that holds NaN or an infinity, if any."""
    if values.dtype.kind != "f":
        return None
    if values.size and np.isfinite(values.min()) and np.isfinite(values.max()):
        return None  # either would be NaN where a number is
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    return int(bad[0]) if len(bad) else None


def check_finite(dataset: Dataset, names: Sequence[str]) -> None:
    """Raises `DataError` naming the first number of these features, in the selected frames, that is NaN or infinite."""
    columns = dataset.floats(names)

    def first_row(name: str) -> int | None:
        parts = ((part.start, first_bad(columns[name][part])) for part in dataset.spans(SCANNED))
        return next((first + bad for first, bad in parts if bad is not None), None)

    for name, row in zip(names, threaded(first_row, names), strict=True):
        if row is None:
            continue
        numbers = columns[name][row].reshape(-1)
        episode, dimension = int(dataset.table.of_rows(np.array([row]))[0]), int(np.argmin(np.isfinite(numbers)))
        raise DataError(
            f"{dataset.root}: {name}: episode {episode}, frame {row - dataset.episode_from[episode]}: expected finite "
            f"numbers, found {numbers[dimension]} in dimension {dimension}; `nextmove inspect {dataset.root}` lists all"
        )


def exact_stats(dataset: Dataset, names: Iterable[str] | None = None) -> Stats:
    """Statistics of the selected frames, computed now from the columns: all numbers, or only the features `names`."""
    features = dataset.layout.features
    wanted = [n for n in features if features[n].is_number] if names is None else list(names)
    columns = dataset.columns(wanted)
    return {name: describe(columns[name][dataset.rows], name) for name in wanted}


def merge(parts: Sequence[Stats]) -> Stats:
    """The statistics of several sets taken together.

    min, max, mean, std and count are exact. Quantiles cannot be merged exactly: they come from the mixture of the
    parts' distributions, each taken as linear between its own quantiles; absent where a part has none.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _merge_one([part[name] for part in parts if name in part]) for name in names}


def _merge_one(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    count = np.array([float(p["count"].reshape(-1)[0]) for p in parts])
    weight = (count / count.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    means = np.stack([p["mean"] for p in parts]).astype(np.float64)
    stds = np.stack([p["std"] for p in parts]).astype(np.float64)
    mean = means[0] + (weight * (means - means[0])).sum(0)
    std = np.sqrt((weight * (stds**2 + (means - mean) ** 2)).sum(0))
    out = {
        "min": np.stack([p["min"] for p in parts]).min(0),
        "max": np.stack([p["max"] for p in parts]).max(0),
        "mean": mean,
        "std": std,
        "count": np.array([int(count.sum())]),
    }
    if all(q in part for part in parts for q in QUANTILES):
        out |= _merge_quantiles(parts, weight.reshape(-1))
    return out


def _merge_quantiles(parts: Sequence[Mapping[str, Array]], weight: Array) -> dict[str, Array]:
    knots = np.stack([[p[k] for k in ("min", *QUANTILES, "max")] for p in parts])
    shape, heights = knots.shape[2:], np.array([0.0, *QUANTILES.values(), 1.0])
    out = np.empty((len(QUANTILES), int(np.prod(shape))))
    for d, knot in enumerate(knots.reshape(*knots.shape[:2], -1).transpose(2, 0, 1)):
        grid = np.unique(knot)
        mixture = sum(w * np.interp(grid, x, heights, left=0.0) for w, x in zip(weight, knot, strict=True))
        out[:, d] = np.interp(list(QUANTILES.values()), mixture, grid)
    return {q: out[i].reshape(shape) for i, q in enumerate(QUANTILES)}


def parse_stats(raw: Any, where: str) -> Stats:
    """Statistics from JSON; raises `DataError` naming file and feature for what is no number."""
    try:
        return {
            name: {k: np.asarray(v, np.int64 if k == "count" else np.float64) for k, v in entry.items()}
            for name, entry in raw.items()
        }
    except (AttributeError, TypeError, ValueError) as problem:
        raise DataError(f"{where}: statistics must be lists of numbers by feature ({problem})") from None


def to_json(stats: Stats) -> dict[str, dict[str, Any]]:
    """Statistics as nested lists."""
    return {name: {k: v.tolist() for k, v in entry.items()} for name, entry in stats.items()}


class PixelCounts:
    """How often every value occurs in a camera's channels, `counts` (C, L): statistics of it are exact.

    L: 256 of colours, 4096 of codes of depths.
    """

    def __init__(self, counts: Array | None = None, images: int = 0) -> None:
        self.counts, self.images = counts, images

    def add(self, image: Array) -> None:
        """Count the pixels of one (H, W, C) image, colours uint8; large ones are thinned to about 150 pixels a side."""
        longer = max(image.shape[:2])
        step = longer // 150 if longer >= 300 else 1
        thin = image[::step, ::step]
        size = 256 if image.dtype == np.uint8 else LEVELS + 1
        new = np.stack([np.bincount(thin[..., c].reshape(-1), minlength=size) for c in range(image.shape[-1])])
        self.counts = new if self.counts is None else self.counts + new
        self.images += 1

    def __add__(self, other: PixelCounts) -> PixelCounts:
        if self.counts is None or other.counts is None:
            return self if other.counts is None else other
        return PixelCounts(self.counts + other.counts, self.images + other.images)

    def describe(self, level: Array = COLOURS) -> dict[str, Array]:
        """Statistics (C, 1, 1) of what the pixels mean, `level` (L,) ascending; count is the number of images."""
        if self.counts is None:
            raise DataError("no images to describe")
        rows = []
        for counts in self.counts:
            upto, total = np.cumsum(counts), int(counts.sum())
            mean = float(counts @ level / total)
            std = float(np.sqrt(counts @ (level - mean) ** 2 / total))
            present = np.flatnonzero(counts)
            place = (total - 1) * np.array(list(QUANTILES.values()))
            below = level[np.searchsorted(upto, np.floor(place), side="right")]
            above = level[np.searchsorted(upto, np.ceil(place), side="right")]
            rows.append([level[present[0]], level[present[-1]], mean, std, *(below + (above - below) * (place % 1))])
        table = np.array(rows)
        keys = ("min", "max", "mean", "std", *QUANTILES)
        return {**{k: table[:, i, None, None] for i, k in enumerate(keys)}, "count": np.array([self.images])}


def sampled_images(length: int) -> set[int]:
    """Frames of an episode whose pixels are counted: all up to 100, then more, spread evenly (LeRobot's rule)."""
    number = max(min(100, length), min(int(length**0.75), 10000))
    return set(np.round(np.linspace(0, length - 1, number)).astype(int).tolist())
