"""Rows that are not those of the episode that the table says are refused, wherever data are read for a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sets import GOLDEN, edit, put, write_numbers

from nextmove import data, jobs
from nextmove.data import DataError, Windows, open_dataset
from nextmove.data.order import check_order, check_rate

LENGTHS = (20, 30, 25, 15)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy set with every episode in a file of its own."""
    return write_numbers(tmp_path / "set", LENGTHS, data_files_size_in_mb=1e-6)


def exchange_files(root: Path) -> None:
    folder = root / "data/chunk-000"
    for old, new in (("file-000", "x"), ("file-001", "file-000"), ("x", "file-001")):
        (folder / f"{old}.parquet").rename(folder / f"{new}.parquet")


def exchange_lengths(root: Path) -> None:
    paths = sorted(root.glob("meta/episodes/*/*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    for path in paths[1:]:
        path.unlink()
    stop = np.cumsum([30, 20, 25, 15])
    for name, values in (("dataset_from_index", [0, *stop[:-1]]), ("dataset_to_index", stop)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(np.asarray(values, np.int64)))
    pq.write_table(table, paths[0])


def overlap(root: Path) -> None:
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        table = pq.read_table(path)
        values = pa.array(np.maximum(np.array(table["dataset_from_index"]) - 3, 0))
        place = table.schema.get_field_index("dataset_from_index")
        pq.write_table(table.set_column(place, "dataset_from_index", values), path)


def out_of_order(root: Path) -> None:
    edit(root, 2, "frame_index", put(slice(4, 6), [5, 4]))


def leave_rows_out(root: Path) -> None:
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        table = pq.read_table(path)
        values = np.array(table["dataset_from_index"]) + 5 * (np.array(table["episode_index"]) == 1)
        place = table.schema.get_field_index("dataset_from_index")
        pq.write_table(table.set_column(place, "dataset_from_index", pa.array(values)), path)


def undeclared(*names: str, gone: bool = False) -> Callable[[Path], None]:
    """Exchanged lengths in a set whose info.json (and whose files, if `gone`) do not have these counters."""

    def harm(root: Path) -> None:
        exchange_lengths(root)
        info = json.loads((root / "meta/info.json").read_text())
        for name in names:
            del info["features"][name]
        (root / "meta/info.json").write_text(json.dumps(info))
        for path in root.glob("data/*/*.parquet"):
            if gone:
                pq.write_table(pq.read_table(path).drop_columns(list(names)), path)

    return harm


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            exchange_files,
            r"file-000.parquet: row 0 of the file belongs to episode 0.* expected episode_index 0, f.* 1",
        ),
        (exchange_lengths, r"file-001.parquet: row 0 of the file belongs to episode 0, frame 20.* found 1"),
        (overlap, r"meta/episodes: episode 1: expected to begin at row 20 or later, found 17"),
        (
            leave_rows_out,
            r"file-001.parquet: row 0 of the file belongs to no episode, as meta/episodes counts.* found 1",
        ),
        (undeclared("frame_index"), r"file-001.parquet: row 0 of the file belongs to episode 0, frame 20.* found 1"),
        (undeclared("episode_index", "frame_index"), r"belongs to episode 0, frame 20.* found 1"),
        (undeclared("episode_index", gone=True), r"episode 0: expected a frame_index above 19.* found 0"),
        (undeclared("episode_index", "frame_index", gone=True), r"episode 0: expected a timestamp above 1.* found 0"),
        (out_of_order, r"file-002.parquet: row 5 of the file, episode 2: expected a frame_index above 5.* found 4"),
    ],
)
def test_rows_of_another_episode_are_refused(root: Path, harm: Callable[[Path], None], message: str) -> None:
    check_order(open_dataset(root))
    harm(root)
    with pytest.raises(DataError, match=message):
        check_order(open_dataset(root, episodes=[3]))
    with pytest.raises(DataError, match=message):
        jobs.train("bc", root, steps=1, out=root.parent / "run")
    with pytest.warns(UserWarning, match=message):
        Windows(open_dataset(root), ["observation.state"])


def test_lengths_of_other_episodes_are_refused_in_v21(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta").mkdir()
    golden = GOLDEN / "lerobot_dataset_v21/dataset"
    for name in ("info.json", "tasks.jsonl"):
        (root / "meta" / name).write_bytes((golden / "meta" / name).read_bytes())
    for path in golden.glob("data/chunk-000/*.parquet"):
        (root / "data/chunk-000" / path.name).write_bytes(path.read_bytes())
    records = [json.loads(line) for line in (golden / "meta/episodes.jsonl").read_text().splitlines()]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, records)))
    check_order(open_dataset(root))
    records[0]["length"], records[1]["length"] = records[0]["length"] - 5, records[1]["length"] + 5
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(DataError, match=r"episode_000000.parquet: row .* as meta/episodes.jsonl counts"):
        check_order(open_dataset(root))


def test_a_healthy_set_passes(root: Path) -> None:
    for folder in (root, GOLDEN / "lerobot_dataset_v3/dataset", GOLDEN / "lerobot_dataset_v21/dataset"):
        check_order(data.open_dataset(folder))


def test_a_set_without_counters_says_that_it_cannot_be_checked(root: Path) -> None:
    undeclared("episode_index", "frame_index", "timestamp", gone=True)(root)
    with pytest.warns(UserWarning, match="no episode_index, frame_index or timestamp"):
        check_order(open_dataset(root))


def test_timestamps_of_another_rate_than_described_are_refused_in_training(root: Path, tmp_path: Path) -> None:
    path = root / "meta/info.json"
    check_rate(open_dataset(root))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fps": 30}))
    message = r"file-000\.parquet: timestamps come at 10 Hz, .*info\.json says fps 30"
    with pytest.raises(DataError, match=message):
        check_rate(open_dataset(root))
    with pytest.raises(DataError, match=message):
        jobs.train("bc", root, out=tmp_path / "run", steps=1)
