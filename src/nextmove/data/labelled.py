"""A column of strings added to a data set that is there already, such as the sub-task of every step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextmove.data.dataset import open_dataset
from nextmove.data.errors import DataError
from nextmove.data.layout import read_json
from nextmove.data.schema import with_strings
from nextmove.data.tables import read_table
from nextmove.host.files import replacing, write_json


def add_texts(root: Path | str, name: str, texts: Sequence[str]) -> Path:
    """Writes one string for every row of a LeRobot v3.0 data set as its column `name`, in place; returns its folder.

    A column of that name is replaced. Files are exchanged one by one, each whole or not at all, info.json last: until
    then readers do not know the column, and after an interruption the same call begins anew. Raises DataError for
    another number of rows, a column of that name that holds no strings, and a data set of another version.
    """
    import pyarrow.parquet as pq

    root, dataset = Path(root), open_dataset(root)
    path = root / "meta" / "info.json"
    info = read_json(path)
    if not str(info.get("codebase_version")).startswith("v3."):
        raise DataError(f"{path}: codebase_version: only v3.x can be added to, found {info.get('codebase_version')!r}")
    there = dataset.layout.features.get(name)
    if there is not None and there.dtype != "string":
        raise DataError(f"{root}: {name!r}: expected no such feature or one of strings, found {there.dtype}")
    if len(texts) != dataset.num_frames:
        raise DataError(f"{name!r}: expected one text for each of {dataset.num_frames} rows, found {len(texts)}")
    first = 0
    for file in dataset.table.data_files:
        table = read_table(file)
        with replacing(file) as building:
            labelled = with_strings(table, name, texts[first : first + table.num_rows])
            pq.write_table(labelled, building, row_group_size=max(1, table.num_rows))
        first += table.num_rows
    features: dict[str, Any] = info["features"]
    write_json(path, info | {"features": features | {name: {"dtype": "string", "shape": [1], "names": None}}}, indent=4)
    return root
