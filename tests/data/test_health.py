"""The doctor finds what was broken, and where, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.data.sets import FEATURES, GOLDEN, columns, edit, put, write_numbers

from nextmove.data import DatasetWriter, Finding, doctor, open_dataset

LENGTHS = (30, 40, 30)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy set in three data files."""
    return write_numbers(tmp_path / "set", LENGTHS, data_files_size_in_mb=0.001)


def found(root: Path, check: str) -> list[Finding]:
    return [f for f in doctor(root) if f.check == check]


def test_a_healthy_set_has_no_finding(root: Path) -> None:
    assert doctor(root) == []
    assert doctor(open_dataset(root)) == []


@pytest.mark.parametrize("version", ["v3", "v21"])
def test_the_golden_sets_have_only_their_known_oddities(version: str) -> None:
    findings = doctor(GOLDEN / f"lerobot_dataset_{version}" / "dataset")
    assert {f.level for f in findings} == {"warning"}
    constant = next(f for f in findings if f.check == "constant")
    assert (constant.feature, constant.message) == (
        "observation.state",
        "never changes in dimension 1 = 0.75, 4 = 300.1",
    )
    # LeRobot's quantiles of a set are no quantiles; v2.1 stores none.
    assert [f.feature for f in findings if f.check == "stats"][:2] == (
        ["observation.state", "action"] * (version == "v3")
    )


def test_nan_is_found_with_feature_episode_and_frame(root: Path) -> None:
    edit(root, 1, "observation.state", put((slice(7, 9), 2), np.nan))
    (finding,) = found(root, "finite")
    assert (finding.level, finding.feature, finding.episode, finding.frame) == ("error", "observation.state", 1, 7)
    assert "2 frames" in finding.message
    assert "dimension 2" in finding.message
    assert "episode 1, frame 7" in str(finding)


def test_constant_dimensions_are_found(root: Path) -> None:
    for file in range(3):
        edit(root, file, "action", put((slice(None), 1), 0.5))
    (finding,) = found(root, "constant")
    assert (finding.feature, finding.message) == ("action", "never changes in dimension 1 = 0.5")


def test_numbers_that_float32_cannot_tell_apart_are_found(tmp_path: Path) -> None:
    kinds = {"observation.time": "float64", "observation.ticks": "int64", "action": "float32"}
    features = {name: {"dtype": kind, "shape": [2], "names": None} for name, kind in kinds.items()}
    writer, steps = DatasetWriter(tmp_path / "set", features, 10), np.arange(40)
    still = np.full(40, 0.1)
    made = {
        "observation.time": np.stack([still, 1.7e9 + 0.1 * steps], 1),
        "observation.ticks": np.stack([steps, 7 * steps], 1),
        "action": np.stack([np.sin(steps), np.cos(steps)], 1).astype(np.float32),
    }
    writer.add_episode(made, "x")
    writer.finalize()
    (finding,) = found(tmp_path / "set", "precision")
    assert (finding.level, finding.feature) == ("warning", "observation.time")
    assert "rounds dimension 1 by 3.9 of a range of 3.9; subtract" in finding.message


@pytest.mark.parametrize("name", ["index", "frame_index", "episode_index", "task_index"])
def test_counters_that_do_not_count_are_found(root: Path, name: str) -> None:
    edit(root, 2, name, put(4, 77))
    (finding,) = found(root, "counter")
    assert (finding.feature, finding.episode, finding.frame) == (name, 2, 4)


def test_late_timestamps_are_found(root: Path) -> None:
    edit(root, 0, "timestamp", put(slice(5, 8), 0.55))
    (finding,) = found(root, "timestamp")
    assert (finding.episode, finding.frame) == (0, 5)
    assert finding.message == "3 frames beside frame / fps: expected 0.500000 s, found 0.550000 s"


def test_actions_out_of_range_are_found(root: Path) -> None:
    edit(root, 1, "action", put((11, 0), -400.0))
    (finding,) = found(root, "range")
    assert (finding.level, finding.feature, finding.episode, finding.frame) == ("warning", "action", 1, 11)
    assert "the first -400" in finding.message


def test_stale_statistics_are_found(root: Path) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["mean"][0] += 1
    del stats["next.reward"]
    path.write_text(json.dumps(stats))
    assert [(f.feature, "mean" in f.message) for f in found(root, "stats")] == [
        ("action", True),
        ("next.reward", False),
    ]
    path.unlink()
    assert "file is missing" in found(root, "stats")[0].message


def test_statistics_in_small_units_are_compared_too(tmp_path: Path) -> None:
    entry = {"dtype": "float32", "shape": [1], "names": None}
    writer = DatasetWriter(tmp_path / "set", {"observation.state": entry, "action": entry}, fps=10)
    moves = 1e-8 * np.random.default_rng(0).normal(size=(20, 1)).astype(np.float32)
    writer.add_episode({"observation.state": 0 * moves, "action": moves}, "x")
    root = writer.finalize()
    assert found(root, "stats") == []
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["std"] = [2e-8]
    path.write_text(json.dumps(stats))
    assert [f.feature for f in found(root, "stats")] == ["action"]


def test_repeated_frames_and_episodes_are_found(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", FEATURES, 10)
    stuck = columns(20, 0)
    for name in ("observation.state", "observation.grid", "observation.cells", "action"):
        stuck[name][8:15] = stuck[name][8]
    for episode in (stuck, columns(20, 1), columns(20, 1)):
        writer.add_episode(episode, "go")
    stood, twice = found(writer.finalize(), "repeat")
    assert (stood.episode, stood.frame) == (0, 8)
    assert stood.message.startswith("7 frames in a row")
    assert (twice.episode, twice.message) == (2, "is the same as episode 1")


def test_truncated_and_missing_tables_are_named(root: Path) -> None:
    path = root / "data/chunk-000/file-001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    (finding,) = doctor(root)
    assert (finding.check, finding.file) == ("table", path)
    path.unlink()
    assert found(root, "length")[0].message == "the data files hold 60 rows, the episodes 100"
    (root / "meta/info.json").unlink()
    assert [f.check for f in doctor(root)] == ["open"]


def test_wrong_totals_are_found(root: Path) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"total_frames": 101, "total_episodes": 4}))
    assert [f.message for f in found(root, "totals")] == [
        "info.json says total_episodes 4, the tables hold 3",
        "info.json says total_frames 101, the tables hold 100",
    ]


@pytest.mark.parametrize("version", ["v3", "v21"])
def test_damaged_videos_are_named(tmp_path: Path, version: str) -> None:
    root = Path(shutil.copytree(GOLDEN / f"lerobot_dataset_{version}" / "dataset", tmp_path / "set"))
    videos = sorted(root.rglob("*.mp4"))
    videos[0].write_bytes(videos[0].read_bytes()[:-40])
    videos[1].unlink()
    shutil.copy(videos[-1], videos[2])
    errors = [f for f in doctor(root) if f.level == "error"]
    assert {f.file for f in errors} >= set(videos[:2])
    assert {f.check for f in errors} == {"video"}


def test_a_video_of_another_size_is_named(tmp_path: Path) -> None:
    root = Path(shutil.copytree(GOLDEN / "lerobot_dataset_v3" / "dataset", tmp_path / "set"))
    info = json.loads((root / "meta/info.json").read_text())
    name = next(name for name, feature in info["features"].items() if feature["dtype"] == "video")
    feature = info["features"][name]
    height, width = feature["shape"][:2]
    feature["shape"] = [height + 16, width + 8, 3]
    (root / "meta/info.json").write_text(json.dumps(info))
    errors = [finding for finding in doctor(root) if finding.level == "error"]
    assert {finding.feature for finding in errors} == {name}
    said = f"expected {height + 16} x {width + 8} px as info.json says, found {height} x {width}"
    assert all(finding.message.endswith(said) for finding in errors)


def test_a_v21_file_of_another_length_is_named(tmp_path: Path) -> None:
    root = Path(shutil.copytree(GOLDEN / "lerobot_dataset_v21" / "dataset", tmp_path / "set"))
    path = root / "data/chunk-000/episode_000002.parquet"
    pq.write_table(pq.read_table(path).slice(0, 29), path)
    finding = found(root, "length")[0]
    assert (finding.episode, finding.file, finding.message) == (2, path, "holds 29 rows, its episode 30")
