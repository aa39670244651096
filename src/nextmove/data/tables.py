"""Parquet columns as numpy arrays: the only reader of parquet in this room."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.config import nearest
from nextmove.data.digits import refuse_lost
from nextmove.data.errors import DataError
from nextmove.data.hidden import hidden
from nextmove.data.layout import Feature

Array = np.ndarray[Any, np.dtype[Any]]

ROWS = 1 << 15
"""Rows of a file that are decoded at once."""
BUFFER = 1 << 16
"""Bytes read at once: without a limit a whole column of a large file is kept beside its numbers."""


def files_in(folder: Path) -> list[Path]:
    """The parquet files of a v3 folder in row order: by chunk and file number, other names in order of their paths.

    Hidden files are passed over.
    """
    found = sorted(p for p in folder.glob("*/*.parquet") if not hidden(p, folder))
    numbers = [re.fullmatch(r"chunk-(\d+)/file-(\d+)\.parquet", f"{p.parent.name}/{p.name}") for p in found]
    if all(numbers):
        ranked = sorted((int(n[1]), int(n[2]), p) for n, p in zip(numbers, found, strict=True) if n)
        found = [p for _, _, p in ranked]
    return found


def open_parquet(path: Path, buffer: int = 0) -> Any:
    """A `pyarrow.parquet.ParquetFile`; raises `DataError` naming a file that is missing or has no footer.

    buffer: bytes to read at once; 0 maps the file into memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise DataError(f"{path}: file is missing")
    try:
        return pq.ParquetFile(path, memory_map=not buffer, buffer_size=buffer)
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(
            f"{path}: not a readable parquet file, truncated or never closed by its writer ({problem})"
        ) from None


def read_columns(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The named columns of one file as arrow arrays; raises `DataError` for a column that the file does not have."""
    wanted = list(names)
    with open_parquet(path) as file:
        _refuse_absent(path, wanted, file)
        with _damage_named(path, wanted):
            table = file.read(columns=wanted, use_threads=False)
        return {name: table.column(name).combine_chunks() for name in wanted}


def read_table(path: Path) -> Any:
    """All of one file as an arrow table, metadata included; raises `DataError` naming a file that cannot be read."""
    with open_parquet(path) as file, _damage_named(path, file.schema_arrow.names):
        return file.read(use_threads=False)


def read_parts(path: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The named columns of one file piece by piece, at most `ROWS` rows each; raises as `read_columns` does."""
    wanted = list(names)
    with open_parquet(path, BUFFER) as file:
        _refuse_absent(path, wanted, file)
        with _damage_named(path, wanted):
            for part in file.iter_batches(ROWS, columns=wanted, use_threads=False):
                yield {name: part.column(name) for name in wanted}


def count_rows(path: Path) -> int:
    """How many rows one file holds; raises as `open_parquet` does."""
    with open_parquet(path, BUFFER) as file:
        return int(file.metadata.num_rows)


def _refuse_absent(path: Path, wanted: Iterable[str], file: Any) -> None:
    present = file.schema_arrow.names
    for name in wanted:
        if name not in present:
            raise DataError(f"{path}: column {name!r} is missing{nearest(name, present)}")


@contextmanager
def _damage_named(path: Path, wanted: Sequence[str]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{path}: columns {wanted} cannot be read, the file is damaged ({problem})") from None


def to_numpy(column: Any, feature: Feature, where: str, first: int = 0) -> Array:
    """An arrow column as (N, *item_shape) of the feature's dtype; strings and language become an object array (N,).

    first: number in the file of the column's first row. Raises `DataError` naming file, feature and row for an absent
    value, a list of another length than the shape, or numbers that the dtype cannot hold.
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    rows = len(column)
    if feature.dtype in ("string", "language"):
        if feature.dtype == "string":
            _refuse_null(column, feature, where, first)
            kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
            if rows and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise DataError(f"{where}: feature {feature.name!r}: expected strings, found {column.type}")
        out = np.empty(rows, dtype=object)
        for row, value in enumerate(column.to_pylist()):  # One by one: lists of one length would become an axis.
            out[row] = value
        return out
    flat = _flatten(column, feature.item_shape or (1,), feature, where, first)
    return _cast(_numbers(flat).reshape(rows, *feature.item_shape), np.dtype(feature.dtype), feature, where)


def _numbers(flat: Any) -> Array:
    """An arrow array without absent values; the numbers lie where they lay: `to_numpy` would import pandas for them."""
    import pyarrow as pa

    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        return np.asarray(flat.to_numpy(zero_copy_only=False))
    if not len(flat):
        return np.zeros(0, flat.type.to_pandas_dtype())
    return np.frombuffer(flat.buffers()[1], flat.type.to_pandas_dtype())[flat.offset : flat.offset + len(flat)]


def _opened(lists: Any) -> tuple[Array, Any]:
    """Lengths of lists, none of them absent, and what is in them.

    Arrow's own `value_lengths` and `flatten` would import all of its functions, a fifth of a second.
    """
    import pyarrow as pa

    if pa.types.is_fixed_size_list(lists.type):
        size = lists.type.list_size
        return np.full(len(lists), size), lists.values[lists.offset * size : (lists.offset + len(lists)) * size]
    places = _numbers(lists.offsets)
    return np.diff(places), lists.values[int(places[0]) : int(places[-1])]


def _refuse_null(column: Any, feature: Feature, where: str, first: int) -> None:
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{where}: feature {feature.name!r} has no value in row {row} of the file")


def _flatten(column: Any, shape: Sequence[int], feature: Feature, where: str, first: int) -> Any:
    """Nested lists to one flat array, every list checked against its length in `shape`."""
    import pyarrow as pa

    _refuse_null(column, feature, where, first)
    expected = list(shape)
    kinds = pa.types
    while any(kind(column.type) for kind in (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)):
        size = expected.pop(0) if expected else 1
        lengths, inside = _opened(column)
        wrong = np.flatnonzero(lengths != size)
        if len(wrong):
            raise DataError(
                f"{where}: feature {feature.name!r}: expected shape {list(feature.shape)}, "
                f"found a list of length {int(lengths[wrong[0]])} at position {first + int(wrong[0])}"
            )
        column, first = inside, first * size
        _refuse_null(column, feature, where, first)
    if int(np.prod(expected, dtype=np.int64)) != 1:
        raise DataError(f"{where}: feature {feature.name!r}: expected shape {list(feature.shape)}, found {column.type}")
    return column


def _cast(values: Array, dtype: np.dtype[Any], feature: Feature, where: str) -> Array:
    if values.dtype == dtype:
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: feature {feature.name!r}: expected {dtype}, found {values.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    refuse_lost(values, cast, f"{where}: feature {feature.name!r}")
    if dtype.kind in "biu" and not np.array_equal(cast, values):
        raise DataError(f"{where}: feature {feature.name!r}: values do not fit {dtype}, stored as {values.dtype}")
    return cast
