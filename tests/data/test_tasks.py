"""Instructions are looked up by their number, whatever numbers there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sets import FEATURES, GOLDEN, columns, edit, put, write_numbers

from nextmove.data import DataError, DatasetWriter, Windows, doctor, open_dataset


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    """A v3.0 set of tasks 0 and 3, the latter first in its file."""
    root = write_numbers(tmp_path / "set", (4, 6))
    pq.write_table(pa.table({"task_index": [3, 0], "task": ["odd", "even"]}), root / "meta/tasks.parquet")
    edit(root, 0, "task_index", lambda values: 3 * values)
    return root


def old(root: Path, *lines: str) -> Path:
    """The golden v2.1 set, its tasks renumbered from 0, 1, ... to `lines`."""
    shutil.copytree(GOLDEN / "lerobot_dataset_v21/dataset", root)
    (root / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    for path in root.rglob("*.parquet"):
        table = pq.read_table(path)
        number = pa.array(3 * table.column("task_index").to_numpy())
        pq.write_table(table.set_column(table.schema.get_field_index("task_index"), "task_index", number), path)
    return root


def test_numbers_may_be_missing(gapped: Path, tmp_path: Path) -> None:
    assert open_dataset(gapped).tasks == {0: "even", 3: "odd"}
    before = GOLDEN / "lerobot_dataset_v21/dataset"
    known = [json.loads(line) for line in (before / "meta/tasks.jsonl").read_text().splitlines()]
    lines = [json.dumps({"task_index": 3 * r["task_index"], "task": r["task"]}) for r in known]
    for root, tasks in ((gapped, ["even"] * 4 + ["odd"] * 6), (old(tmp_path / "old", *lines), None)):
        dataset = open_dataset(root)
        rows = range(len(dataset))
        expected = tasks or [open_dataset(before).tasks[i] for i in open_dataset(before).column("task_index")]
        assert [dataset.task(int(dataset.column("task_index")[i])) for i in rows] == expected
        assert dataset.item(len(dataset) - 1)["task"] == expected[-1]
        windows = Windows(dataset, ["observation.state"])
        assert windows.batch(np.array([0, 7]))["task"] == [expected[0], expected[7]]
        assert [f for f in doctor(root) if f.level == "error"] == []


def test_a_row_whose_task_there_is_not_is_named(gapped: Path) -> None:
    edit(gapped, 0, "task_index", put(7, 1))
    dataset = open_dataset(gapped)
    with pytest.raises(DataError, match=r"set: row 7: task_index 1 has no task; there are 0, 3"):
        dataset.item(7)
    assert "task" not in Windows(dataset, ["observation.state"]).batch(np.array([7]))
    assert Windows(dataset, ["task"], episodes=[0]).batch(np.array([0]))["task"] == ["even"]
    with pytest.raises(DataError, match=r"set: row 7: task_index 1 has no task; there are 0, 3"):
        Windows(dataset, ["observation.state", "task"])
    (finding,) = (f for f in doctor(gapped) if f.check == "counter")
    assert (finding.feature, finding.episode, finding.frame) == ("task_index", 1, 3)
    assert dataset.item(6)["task"] == "odd"


def test_episodes_added_later_keep_the_numbers_of_the_tasks(gapped: Path) -> None:
    writer = DatasetWriter(gapped, FEATURES, 10, resume=True)
    writer.add_episode(columns(3, 7), ["odd", "new", "even"])
    writer.add_episode(columns(2, 8), "newer")
    writer.finalize()
    dataset = open_dataset(gapped)
    assert dataset.tasks == {0: "even", 3: "odd", 4: "new", 5: "newer"}
    assert dataset.column("task_index").tolist() == [0] * 4 + [3] * 6 + [3, 4, 0, 5, 5]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"task_index": 0, "task": "a"}', '{"task_index": 0, "task": "b"}'], r"task_index 0: expected one task"),
        (['{"task_index": 0, "task": "a"}', '{"task_index": 3'], r"tasks\.jsonl: line 2 is not valid JSON"),
        (['{"task_index": 0}'], r"tasks\.jsonl: line 1: task: expected str, found no such key"),
        (['{"task_index": "0", "task": "a"}'], r"line 1: task_index: expected int, found '0'"),
        (["[0]"], r"tasks\.jsonl: line 1: expected an object, found \[0\]"),
    ],
)
def test_a_table_of_tasks_that_is_none_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(old(tmp_path / "set", *lines))
