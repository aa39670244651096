"""Arrow tables exactly as LeRobot 0.6 writes them: types, column order, the metadata of `datasets` and pandas.

Shapes: T frames of an episode, E episodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nextmove.data.layout import Feature
from nextmove.data.stats import QUANTILES, Stats
from nextmove.data.tables import Array

STAT_KEYS = ("min", "max", "mean", "std", "count", *QUANTILES)


def data_table(features: Mapping[str, Feature], columns: Mapping[str, Any]) -> Any:
    """The table of an episode: every feature but videos, in order; images are lists of encoded images."""
    import pyarrow as pa

    stored = [feature for feature in features.values() if not feature.is_video]
    arrays = [_array(feature, columns[feature.name]) for feature in stored]
    fields = [
        pa.field(feature.name, array.type, metadata=_extension(feature))
        for feature, array in zip(stored, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=_datasets_metadata(stored)))


def with_strings(table: Any, name: str, texts: Sequence[str]) -> Any:
    """A data table with one more column of strings, last, or in place of one of that name; its metadata say so too."""
    import pyarrow as pa

    values, field = pa.array(list(texts), pa.string()), pa.field(name, pa.string())
    place = table.schema.get_field_index(name)
    out = table.append_column(field, values) if place < 0 else table.set_column(place, field, values)
    metadata = dict(table.schema.metadata or {})
    if b"huggingface" in metadata:
        specs = json.loads(metadata[b"huggingface"])["info"]["features"] | {name: {"dtype": "string", "_type": "Value"}}
        metadata |= {key.encode(): text.encode() for key, text in _described(specs).items()}
    return out.replace_schema_metadata(metadata or None)


def _array(feature: Feature, values: Any) -> Any:
    import pyarrow as pa

    if feature.dtype == "image":
        images = [{"bytes": b, "path": f"frame-{i:06d}.png"} for i, b in enumerate(values)]
        return pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if feature.dtype == "string":
        return pa.array(list(values), pa.string())
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    if len(feature.item_shape) == 1:
        return pa.FixedSizeListArray.from_arrays(array, feature.item_shape[0])
    for size in reversed(feature.item_shape):
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, size), pa.int32()), array)
    return array


def _extension(feature: Feature) -> dict[str, str] | None:
    """How `datasets` marks arrays of two and more axes."""
    if not feature.is_number or len(feature.item_shape) < 2:
        return None
    return {
        "ARROW:extension:name": f"datasets.features.features.Array{len(feature.shape)}DExtensionType",
        "ARROW:extension:metadata": json.dumps([list(feature.shape), feature.dtype]),
    }


def _datasets_metadata(features: Sequence[Feature]) -> dict[str, str]:
    return _described({feature.name: _datasets_spec(feature) for feature in features})


def _described(specs: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(specs)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"huggingface": json.dumps({"info": {"features": specs}, "fingerprint": fingerprint})}


def _datasets_spec(feature: Feature) -> dict[str, Any]:
    if feature.dtype == "image":
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    if not feature.item_shape:
        return value
    if len(feature.shape) == 1:
        return {"feature": value, "length": feature.shape[0], "_type": "List"}
    return {"shape": list(feature.shape), "dtype": feature.dtype, "_type": f"Array{len(feature.shape)}D"}


def tasks_table(tasks: Mapping[int, str]) -> Any:
    """The table of instructions: a pandas frame of task_index whose index is the instruction."""
    import pyarrow as pa

    number, task = pa.array(list(tasks), pa.int64()), pa.array(list(tasks.values()), pa.string())
    table = pa.table({"task_index": number, "task": task})
    described = [
        {"name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    metadata = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [{**column, "field_name": column["name"], "metadata": None} for column in described],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(metadata)})


def episodes_table(rows: Sequence[Mapping[str, Any]], stats: Sequence[Stats], place: tuple[int, int]) -> Any:
    """The table of episodes: `rows` (E) of numbers and task lists, their statistics, the table's own file numbers."""
    import pyarrow as pa

    arrays: dict[str, Any] = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    arrays["tasks"] = pa.array([row["tasks"] for row in rows], pa.list_(pa.string()))
    for name in stats[0]:
        for key in STAT_KEYS:
            values: list[Array] = [entry[name][key] for entry in stats]
            kind = pa.int64() if key == "count" else pa.float64()
            for _ in range(values[0].ndim):
                kind = pa.list_(kind)
            arrays[f"stats/{name}/{key}"] = pa.array([v.tolist() for v in values], kind)
    for key, number in zip(("chunk_index", "file_index"), place, strict=True):
        arrays[f"meta/episodes/{key}"] = pa.array([number] * len(rows), pa.int64())
    return pa.table(arrays)
