"""Small data sets that the tests write, read and break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextmove.data import DatasetWriter

Change = Callable[[Any], Any]
GOLDEN = Path(__file__).parents[1] / "golden"
LENGTHS = (7, 1, 12, 5)
FEATURES: dict[str, dict[str, Any]] = {
    "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
    "observation.grid": {"dtype": "float64", "shape": [2, 3]},
    "observation.cells": {"dtype": "int32", "shape": [2, 1, 2]},
    "action": {"dtype": "float32", "shape": [2]},
    "next.reward": {"dtype": "float32", "shape": [1]},
    "next.done": {"dtype": "bool", "shape": [1]},
    "phase": {"dtype": "string", "shape": [1]},
}
CAMERAS: dict[str, dict[str, Any]] = {
    "observation.images.top": {"dtype": "video", "shape": [32, 48, 3]},
    "observation.images.skin": {"dtype": "image", "shape": [8, 6, 3]},
}


def columns(length: int, seed: int) -> dict[str, Any]:
    """Numbers of an episode."""
    rng = np.random.default_rng(seed)
    return {
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32),
        "observation.grid": rng.normal(size=(length, 2, 3)),
        "observation.cells": rng.integers(-9, 9, (length, 2, 1, 2)).astype(np.int32),
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "next.reward": rng.random(length).astype(np.float32),
        "next.done": np.arange(length) == length - 1,
        "phase": [f"step {t} é" for t in range(length)],
    }


def images(length: int, height: int, width: int, seed: int) -> np.ndarray:
    """Smooth frames (T, H, W, 3) uint8 whose grey value tells them apart."""
    y, x = np.mgrid[0:height, 0:width]
    grey = 30 + (np.arange(length)[:, None, None] * 9 + seed * 40) % 180
    return np.stack([grey + 10 * np.sin(x / 9), grey + 10 * np.sin(y / 7), grey + 0 * x], -1).astype(np.uint8)


def with_cameras(length: int, seed: int) -> dict[str, Any]:
    """Numbers and images of an episode."""
    rng = np.random.default_rng(seed + 100)
    return {
        **columns(length, seed),
        "observation.images.top": images(length, 32, 48, seed),
        "observation.images.skin": rng.integers(0, 256, (length, 8, 6, 3), dtype=np.uint8),
    }


def write_numbers(root: Path, lengths: tuple[int, ...] = LENGTHS, **options: Any) -> Path:
    """A set without cameras, in tasks "even" and "odd"."""
    writer = DatasetWriter(root, FEATURES, 10, **options)
    for episode, length in enumerate(lengths):
        writer.add_episode(columns(length, episode), ("even", "odd")[episode % 2])
    return writer.finalize()


def edit(root: Path, file: int, name: str, change: Change) -> None:
    """Rewrite one column of a data file."""
    path = root / f"data/chunk-000/file-{file:03d}.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    values = np.array(table.column(name).to_pylist())
    column = pa.array(change(values).tolist(), table.schema.field(name).type)
    pq.write_table(table.set_column(place, table.schema.field(name), column), path)


def put(row: Any, value: Any) -> Change:
    """Another value at some rows of a column, for `edit`."""

    def change(values: Any) -> Any:
        values[row] = value
        return values

    return change
