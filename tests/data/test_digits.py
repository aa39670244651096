"""Numbers that a narrower type cannot hold are refused where they are stored and read, or said where models need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextmove.data import DataError, DatasetWriter, open_dataset
from nextmove.data.digits import rounding

CLOCK = 1_764_000_000_123_456_789 + 33_333_333 * np.arange(30)
TICKS = 2**24 + np.arange(30)
STILL = np.zeros(30)


def writer(root: Path, dtype: str, width: int = 1) -> DatasetWriter:
    one = {"dtype": "float32", "shape": [1], "names": None}
    return DatasetWriter(root, {"observation.x": {"dtype": dtype, "shape": [width], "names": None}, "action": one}, 30)


def action() -> Any:
    return np.zeros(30, np.float32)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (CLOCK, "float32", "whole numbers that float32 holds, found 1764000000123456789 in dimension 0"),
        (TICKS, "float32", "whole numbers that float32 holds, found 16777217"),
        (-TICKS.astype(np.int32), "float32", "whole numbers that float32 holds, found -16777217"),
        (TICKS.astype(np.uint32), "float32", "found 16777217"),
        (np.full(30, 2**63 - 1), "float32", "found 9223372036854775807"),
        (CLOCK, "float64", "whole numbers that float64 holds, found 1764000000123456789"),
        (np.arange(30) + 2048, "float16", "whole numbers that float16 holds, found 2049"),
        (CLOCK / 1e9, "float32", "float32 rounds dimension 0 by .* of a range of .*; declare dtype float64"),
        (np.stack([STILL + 0.1, CLOCK / 1e9], 1), "float32", "float32 rounds dimension 1 by"),
        (TICKS.astype(np.float64), "float32", "float32 rounds dimension 0 by 1 of a range of 29"),
    ],
)
def test_numbers_that_lose_their_digits_are_not_written(tmp_path: Path, values: Any, dtype: str, message: str) -> None:
    made = writer(tmp_path / "set", dtype, 1 if values.ndim == 1 else values.shape[1])
    with pytest.raises(DataError, match=f"feature 'observation.x': .*{message}"):
        made.add_episode({"observation.x": values, "action": action()}, "x")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (CLOCK, "int64"),
        (TICKS, "int64"),
        (CLOCK / 1e9, "float64"),
        (np.arange(30), "float32"),
        (2**24 * np.arange(30), "float32"),
        (np.full(30, -(2**63)), "float32"),
        (np.arange(30) % 2 == 0, "float32"),
        # Floats are meant to be rounded: a body at rest trembles in the last digits of float64.
        (300.1 + 1e-9 * np.arange(30), "float32"),
        (1e12 * np.arange(30.0), "float32"),
    ],
)
def test_what_is_kept_is_written(tmp_path: Path, values: Any, dtype: str) -> None:
    made = writer(tmp_path / "set", dtype)
    made.add_episode({"observation.x": values, "action": action()}, "x")
    found = open_dataset(made.finalize()).column("observation.x")
    np.testing.assert_allclose(found, values.astype(dtype), rtol=1e-7)
    if dtype == "int64":
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(("values", "said"), [(TICKS, "found 16777217"), (CLOCK / 1e9, "rounds dimension 0 by")])
def test_numbers_stored_wider_than_their_feature_says_are_refused_where_digits_are_lost(
    tmp_path: Path, values: Any, said: str
) -> None:
    made = writer(tmp_path / "set", "float32")
    made.add_episode({"observation.x": np.arange(30.0), "action": action()}, "x")
    path = made.finalize() / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("observation.x")

    def store(column: Any) -> None:
        pq.write_table(table.set_column(place, "observation.x", pa.array(column)), path)

    store(np.arange(30) / 7)
    assert open_dataset(tmp_path / "set").column("observation.x").dtype == np.float32
    store(values)
    with pytest.raises(DataError, match=rf"file-000.parquet: feature 'observation.x': .*{said}"):
        open_dataset(tmp_path / "set").column("observation.x")


def test_rounding_by_parts_is_that_of_the_whole() -> None:
    values = np.stack([np.linspace(0, 1, 100), 1.7e9 + np.arange(100.0), np.full(100, 0.1)], 1)
    values[7, 0] = np.nan
    whole, parts = rounding(values), rounding(values[:30])
    parts.add(values[30:], values[30:].astype(np.float32))
    for name in ("lost", "extent", "size"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.coarse() == [1]
