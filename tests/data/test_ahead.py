"""Reading that is begun before it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.sets import write_numbers

from nextmove.data import DataError, Dataset, ahead, open_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_numbers(tmp_path / "set", (20, 30), data_files_size_in_mb=1e-6)


def test_what_was_read_ahead_is_taken_once_and_read_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead.begin(root)
    found = ahead.opened(root)
    expected = {name: open_dataset(root).column(name) for name in ("action", "task_index")}
    assert found.checked["order"] == ""
    read, real = [], Dataset._read
    monkeypatch.setattr(Dataset, "_read", lambda self, names, *a, **k: read.append(names) or real(self, names, *a, **k))
    assert all(np.array_equal(found.column(name), value) for name, value in expected.items())
    ahead.read_all(found, ["action", "observation.state"])
    assert read == [["observation.state"]]
    assert ahead.opened(root) is not found


def test_what_goes_wrong_ahead_is_said_by_who_reads(root: Path) -> None:
    folder = root / "data/chunk-000"
    for old, new in (("file-000", "x"), ("file-001", "file-000"), ("x", "file-001")):
        (folder / f"{old}.parquet").rename(folder / f"{new}.parquet")
    ahead.begin(root)
    dataset = ahead.opened(root)
    with pytest.raises(DataError, match="belongs to episode 0"):
        ahead.read_all(dataset, ["action"])
    (root / "meta/info.json").unlink()
    ahead.begin(root)
    with pytest.raises(DataError, match="file is missing"):
        ahead.opened(root)
