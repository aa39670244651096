"""Episodes without a frame are named, with the way to go on without them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sets import edit, write_numbers

from nextmove import jobs
from nextmove.data import DataError
from nextmove.models.policy import Policy


@pytest.fixture(params=[1, 3], ids=["between", "last"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four episodes, one of which the table gives no row."""
    root, empty = write_numbers(tmp_path / "set", (20, 30, 25)), request.param
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    begin = rows[empty]["dataset_from_index"] if empty < 3 else rows[-1]["dataset_to_index"]
    rows.insert(empty, {**rows[0], "dataset_from_index": begin, "dataset_to_index": begin, "length": 0})
    rows = [row | {"episode_index": number} for number, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    edit(root, 0, "episode_index", lambda numbers: numbers + (numbers >= empty))
    return root


def test_they_are_named_before_a_training_and_left_out(root: Path, tmp_path: Path) -> None:
    message = r"set: episode (\d): expected at least one frame, found none; go on without: --leave-out (\d)"
    with pytest.raises(DataError, match=message) as caught:
        jobs.train("bc", root, out=tmp_path / "run", steps=1)
    empty = int(str(caught.value)[-1])
    policy = jobs.train("bc", root, out=tmp_path / "run", steps=1, leave_out=(empty,))
    assert isinstance(policy, Policy)
    with pytest.raises(DataError, match=message):
        jobs.evaluate(tmp_path / "run", data=root)
    report = jobs.evaluate(tmp_path / "run", data=root, leave_out=(empty,))
    assert report["policies"]
