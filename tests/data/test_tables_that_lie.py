"""Times, statistics and types that are none are named, and so are frames that two episodes share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sets import columns, images, write_numbers

from nextmove.data import DataError, DatasetWriter, doctor, open_dataset

CAMERA = "observation.images.top"
FEATURES: dict[str, dict[str, Any]] = {
    "observation.state": {"dtype": "float32", "shape": [3]},
    "action": {"dtype": "float32", "shape": [2]},
    CAMERA: {"dtype": "video", "shape": [32, 48, 3]},
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes in one video file."""
    writer = DatasetWriter(tmp_path_factory.mktemp("lying") / "set", FEATURES, 10)
    for episode, length in enumerate((8, 6, 7)):
        numbers = {name: columns(length, episode)[name] for name in ("observation.state", "action")}
        writer.add_episode({**numbers, CAMERA: images(length, 32, 48, episode)}, "push")
    return writer.finalize()


@pytest.fixture
def root(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "set"))


def rewrite(path: Path, name: str, values: Any) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, pa.array(values, table.schema.field(name).type)), path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["timestamp", "from_timestamp"])
def test_times_that_are_none_show_no_frame(root: Path, name: str, value: float) -> None:
    if name == "timestamp":
        rewrite(root / "data/chunk-000/file-000.parquet", name, [value] * 21)
    else:
        rewrite(root / "meta/episodes/chunk-000/file-000.parquet", f"videos/{CAMERA}/{name}", [value] * 3)
    said = rf"file-000\.mp4: '{CAMERA}': expected the time of a frame in seconds, found {value}"
    with pytest.raises(DataError, match=said):
        open_dataset(root).video(CAMERA).frames(np.arange(21))
    checks = [finding.check for finding in doctor(root) if finding.level == "error"]
    assert checks == ["video"] * 3 + ["timestamp"] * (name == "timestamp")


def test_a_timestamp_that_is_none_is_found_without_a_camera(tmp_path: Path) -> None:
    root = write_numbers(tmp_path / "set", (5, 4))
    rewrite(root / "data/chunk-000/file-000.parquet", "timestamp", [0, 0.1, 0.2, np.nan, 0.4, 0, 0.1, 0.2, 0.3])
    (finding,) = doctor(root)
    assert (finding.check, finding.episode, finding.frame) == ("timestamp", 0, 3)
    assert finding.message == "1 frames beside frame / fps: expected 0.300000 s, found nan s"


def test_frames_that_two_episodes_share_are_said(root: Path) -> None:
    assert not [finding for finding in doctor(root) if finding.check == "video"]
    rewrite(root / "meta/episodes/chunk-000/file-000.parquet", f"videos/{CAMERA}/from_timestamp", [0.0, 0.5, 1.4])
    (finding,) = (finding for finding in doctor(root) if finding.check == "video")
    said = "file-000.mp4: episodes 0 and 1 show the same frames of it, 0.5 to 0.7 s; from_timestamp"
    assert (finding.level, finding.feature) == ("warning", CAMERA)
    assert said in finding.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [float("nan"), 0.0]}, "stored mean: expected numbers, found nan"),
        ({"max": [None, 0.0]}, "stored max: expected numbers, found nan"),
        ({"std": [1.0, 1.0, 1.0]}, "stored std: expected 2 numbers, found 3 in shape [3]"),
        ({"min": 0.0}, "stored min: expected 2 numbers, found 1 in shape []"),
    ],
)
def test_statistics_that_are_none_are_said(root: Path, change: dict[str, Any], message: str) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"] |= change
    path.write_text(json.dumps(stats))
    assert [(f.feature, f.message) for f in doctor(root) if f.check == "stats"] == [("action", message)]


def test_statistics_without_a_mean_are_said(root: Path) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    path.write_text(json.dumps(stats | {"action": {"min": [0, 0], "max": [1, 1]}}))
    (finding,) = (finding for finding in doctor(root) if finding.check == "stats")
    assert finding.message == "stored ones lack mean, found min, max"


def test_numbers_that_are_called_strings_are_named(root: Path) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["observation.state"]["dtype"] = "string"
    path.write_text(json.dumps(info))
    message = r"file-000\.parquet: feature 'observation.state': expected strings, found .*float"
    with pytest.raises(DataError, match=message):
        open_dataset(root).column("observation.state")
    assert [finding.check for finding in doctor(root) if finding.level == "error"] == ["table"]
