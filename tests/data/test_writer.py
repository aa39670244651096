"""Written and read back; LeRobot's layout; nothing finished is lost, nothing half done is seen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.data.sets import CAMERAS, FEATURES, GOLDEN, LENGTHS, columns, images, with_cameras, write_numbers

from nextmove.data import DataError, DatasetWriter, VideoCodec, doctor, exact_stats, open_dataset
from nextmove.data.assemble import publish
from nextmove.data.layout import DEFAULTS
from nextmove.data.stats import QUANTILES, Stats

GOLDEN_SET = GOLDEN / "lerobot_dataset_v3" / "dataset"


def same(left: Path, right: Path) -> bool:
    """Whether two sets hold the same files with the same bytes."""
    names = [sorted(str(p.relative_to(r)) for p in r.rglob("*") if p.is_file()) for r in (left, right)]
    return names[0] == names[1] and all((left / n).read_bytes() == (right / n).read_bytes() for n in names[0])


def test_the_files_are_rolled_over_and_the_doctor_is_content(filmed: Path) -> None:
    names = {str(p.relative_to(filmed)) for p in filmed.rglob("*") if p.is_file()}
    assert {"meta/info.json", "meta/stats.json", "meta/tasks.parquet"} <= names
    assert "data/chunk-000/file-001.parquet" in names
    assert "videos/observation.images.top/chunk-000/file-001.mp4" in names
    assert not (filmed / ".staging").exists()
    assert [f for f in doctor(filmed) if f.level == "error"] == []


def test_info_is_lerobots(filmed: Path) -> None:
    info = json.loads((filmed / "meta/info.json").read_text())
    golden = json.loads((GOLDEN_SET / "meta/info.json").read_text())
    assert list(info) == list(golden)
    assert info["features"]["timestamp"] == golden["features"]["timestamp"]
    ours, theirs = (i["features"]["observation.images.top"] for i in (info, golden))
    assert list(ours) == list(theirs)
    assert ours["info"] == theirs["info"] | {"video.height": 32, "video.width": 48}
    assert (info["fps"], info["total_frames"], info["total_episodes"], info["total_tasks"]) == (10, 25, 4, 2)
    assert info["splits"] == {"train": "0:4"}


def test_tables_have_lerobots_types_and_metadata(tmp_path: Path) -> None:
    """The golden set's own numbers, written by us: every schema equal, every row equal."""
    golden = open_dataset(GOLDEN_SET)
    given = [n for n in golden.features if n not in DEFAULTS]
    features = {n: {k: golden.features[n].get(k) for k in ("dtype", "shape", "names")} for n in given}
    writer = DatasetWriter(tmp_path / "set", features, 10, "golden_arm", data_files_size_in_mb=0.01)
    for start, stop in zip(golden.episode_from, golden.episode_to, strict=True):
        rows = np.arange(start, stop)
        episode = {n: golden.video(n).frames(rows) if "images" in n else golden.column(n)[rows] for n in given}
        writer.add_episode(episode, [golden.tasks[i] for i in golden.column("task_index")[rows]])
    root = writer.finalize()
    pairs = ["data/chunk-000/file-000.parquet", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"]
    for name in pairs:
        ours, theirs = pq.read_schema(root / name), pq.read_schema(GOLDEN_SET / name)
        assert [(f.name, str(f.type)) for f in ours] == [(f.name, str(f.type)) for f in theirs]
        assert [f.metadata for f in ours] == [f.metadata for f in theirs]
        for key, text in (theirs.metadata or {}).items():
            assert _without_marks(ours.metadata[key]) == _without_marks(text)
    mine = open_dataset(root)
    for name in golden.features:
        if not name.startswith("observation.images"):
            np.testing.assert_array_equal(mine.column(name), golden.column(name))
    skin = "observation.images.tactile"
    np.testing.assert_array_equal(mine.video(skin).frames(mine.rows), golden.video(skin).frames(golden.rows))
    assert mine.tasks == golden.tasks
    stored, theirs_stats = mine.stats, golden.stats
    assert stored.keys() == theirs_stats.keys()
    for name in stored:
        assert stored[name].keys() == theirs_stats[name].keys()
        assert {k: v.shape for k, v in stored[name].items()} == {k: v.shape for k, v in theirs_stats[name].items()}


def _without_marks(text: bytes) -> Any:
    """JSON without what differs by version or by chance."""
    value = json.loads(text)
    return {k: v for k, v in value.items() if k not in ("fingerprint", "creator", "pandas_version")}


def test_each_episode_is_a_row_group(numbers: Path) -> None:
    meta = pq.ParquetFile(numbers / "data/chunk-000/file-000.parquet").metadata
    assert [meta.row_group(g).num_rows for g in range(meta.num_row_groups)] == list(LENGTHS)
    assert meta.row_group(0).column(0).compression == "SNAPPY"


def test_stored_statistics_are_exact_over_all_frames(filmed: Path) -> None:
    dataset = open_dataset(filmed)
    stored = dataset.stats
    for name, exact in exact_stats(dataset).items():
        for key, values in exact.items():
            np.testing.assert_array_equal(stored[name][key], values)
    state = np.concatenate([columns(n, e)["observation.state"] for e, n in enumerate(LENGTHS)]).astype(np.float64)
    np.testing.assert_array_equal(stored["observation.state"]["q99"], np.quantile(state, 0.99, axis=0))
    assert stored["observation.grid"]["mean"].shape == (3,)
    assert stored["observation.images.skin"]["mean"].shape == (3, 1, 1)
    assert "phase" not in stored


def test_videos_are_small_key_frames_often_and_never_encoded_twice(filmed: Path, tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", {"observation.images.top": CAMERAS["observation.images.top"]}, 10)
    writer.add_episode({"observation.images.top": images(12, 32, 48, 2)}, "alone")
    writer.finalize()
    alone = open_dataset(tmp_path / "set").video("observation.images.top").frames(np.arange(12))
    joined = open_dataset(filmed).video("observation.images.top").frames(np.arange(8, 20))
    np.testing.assert_array_equal(joined, alone)
    with av.open(str(tmp_path / "set/videos/observation.images.top/chunk-000/file-000.mp4")) as file:
        packets = [p for p in file.demux(video=0) if p.pts is not None]
        assert file.streams.video[0].codec_context.codec.canonical_name == "av1"
        assert [float(p.pts * p.time_base) for p in packets] == pytest.approx([k / 10 for k in range(12)])
        assert [p.is_keyframe for p in packets] == [True, False] * 6


@pytest.mark.parametrize("fps", [30, 29.97, 7])
def test_h264_and_any_rate(tmp_path: Path, fps: float) -> None:
    features = {"observation.images.a": {"dtype": "video", "shape": [32, 48, 3]}, "action": FEATURES["action"]}
    writer = DatasetWriter(tmp_path / "set", features, fps, video=VideoCodec("h264", crf=10))
    for episode in range(3):
        frames = images(17, 32, 48, episode)
        # Frames may come one at a time.
        writer.add_episode({"observation.images.a": iter(frames), "action": np.zeros((17, 2))}, "go")
    dataset = open_dataset(writer.finalize())
    expected = np.concatenate([images(17, 32, 48, e) for e in range(3)]).astype(float)
    found = dataset.video("observation.images.a").frames(dataset.rows)
    assert np.abs(found - expected).mean((1, 2, 3)).max() < 4
    assert [f for f in doctor(dataset) if f.level == "error"] == []


def test_a_finished_set_is_added_to(tmp_path: Path) -> None:
    whole = write_numbers(tmp_path / "whole")
    parts = write_numbers(tmp_path / "parts", LENGTHS[:2])
    before = {p: p.read_bytes() for p in (parts / "data").rglob("*.parquet")}
    with pytest.raises(DataError, match="resume=True adds to it"):
        DatasetWriter(parts, FEATURES, 10)
    writer = DatasetWriter(parts, FEATURES, 10, resume=True)
    assert (writer.num_episodes, writer.num_frames) == (2, 8)
    for episode in (2, 3):
        writer.add_episode(columns(LENGTHS[episode], episode), ("even", "odd")[episode % 2])
    writer.finalize()
    assert all(p.read_bytes() == data for p, data in before.items())
    left, right = open_dataset(parts), open_dataset(whole)
    assert left.tasks == right.tasks
    for name in left.features:
        np.testing.assert_array_equal(left.column(name), right.column(name))
    for name, entry in right.stats.items():
        for key, values in entry.items():
            np.testing.assert_array_equal(left.stats[name][key], values)
    assert doctor(parts) == doctor(whole)


def test_lerobots_own_set_is_added_to(tmp_path: Path) -> None:
    root = Path(shutil.copytree(GOLDEN_SET, tmp_path / "set"))
    old = open_dataset(GOLDEN_SET)
    features = {n: f for n, f in old.features.items() if n not in DEFAULTS}
    writer = DatasetWriter(root, features, 10, resume=True)
    rows = np.arange(18)
    episode = {n: old.video(n).frames(rows) if "images" in n else old.column(n)[rows] for n in features}
    writer.add_episode(episode, "pick up the red cube")
    writer.finalize()
    new = open_dataset(root)
    assert (new.num_episodes, new.num_frames, new.tasks) == (6, 116, old.tasks)
    np.testing.assert_array_equal(new.column("action")[98:], old.column("action")[:18])
    for camera in ("observation.images.top", "observation.images.tactile"):
        frames = new.video(camera).frames(new.rows).astype(float)
        np.testing.assert_array_equal(frames[:98], old.video(camera).frames(old.rows))
        assert np.abs(frames[98:] - frames[:18]).mean((1, 2, 3)).max() < 5
    merged: Stats = new.stats
    assert merged["observation.images.top"]["count"].tolist() == [116]
    assert set(merged["observation.images.top"]) >= set(QUANTILES)
    assert [str(f) for f in doctor(new) if f.level == "error"] == []


def test_an_unfinished_set_is_no_data_set_but_goes_on(tmp_path: Path) -> None:
    whole = write_numbers(tmp_path / "whole")
    writer = DatasetWriter(tmp_path / "set", FEATURES, 10)
    for episode in (0, 1):
        writer.add_episode(columns(LENGTHS[episode], episode), ("even", "odd")[episode % 2])
    del writer  # The process dies here, while it was writing the next episode.
    left = tmp_path / f"set/.staging/.episode-000002.{2**22 + 1}.part"
    left.mkdir()
    (left / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"never finalized; DatasetWriter\(..., resume=True\)"):
        open_dataset(tmp_path / "set")
    with pytest.raises(DataError, match="resume=True"):
        DatasetWriter(tmp_path / "set", FEATURES, 10)
    with pytest.raises(DataError, match="begun with another fps: 10, now 20"):
        DatasetWriter(tmp_path / "set", FEATURES, 20, resume=True)
    writer = DatasetWriter(tmp_path / "set", FEATURES, 10, resume=True)
    assert (writer.num_episodes, writer.num_frames) == (2, 8)
    for episode in (2, 3):
        writer.add_episode(columns(LENGTHS[episode], episode), ("even", "odd")[episode % 2])
    writer.finalize()
    assert same(tmp_path / "set", whole)


@pytest.mark.parametrize("moves", range(6))
def test_a_crash_while_finalizing_loses_nothing(tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_numbers(tmp_path / "whole")
    root = tmp_path / "set"
    writer = DatasetWriter(root, FEATURES, 10)
    for episode, length in enumerate(LENGTHS):
        writer.add_episode(columns(length, episode), ("even", "odd")[episode % 2])
    real, done = os.replace, 0

    def crash(source: Path, target: Path) -> None:
        nonlocal done
        if not str(source).endswith(".part"):
            if done == moves:
                raise KeyboardInterrupt
            done += 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("nextmove.data.assemble.os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            writer.finalize()
    with pytest.raises(DataError, match="resume=True"):
        open_dataset(root)
    resumed = DatasetWriter(root, FEATURES, 10, resume=True)
    assert resumed.num_frames == 25
    resumed.finalize()
    assert same(root, whole)


def test_a_crash_before_the_list_of_moves_goes_back_to_the_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_numbers(tmp_path / "whole")
    root = write_numbers(tmp_path / "set", LENGTHS[:3])
    writer = DatasetWriter(root, FEATURES, 10, resume=True)
    writer.add_episode(columns(LENGTHS[3], 3), "odd")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nextmove.data.assemble.sync_tree", crash)
        with pytest.raises(KeyboardInterrupt):
            writer.finalize()
    assert open_dataset(root).num_episodes == 3
    DatasetWriter(root, FEATURES, 10, resume=True).finalize()
    assert open_dataset(root).num_episodes == 4
    np.testing.assert_array_equal(open_dataset(root).column("action"), open_dataset(whole).column("action"))
    publish(root)
    assert not [p for p in root.iterdir() if p.name.startswith(".")]


def test_a_set_of_other_features_is_not_added_to(numbers: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(numbers, tmp_path / "set"))
    other = FEATURES | {"action": {"dtype": "float32", "shape": [3]}}
    with pytest.raises(DataError, match=r"feature 'action': the data set has .*\[2\].*the writer .*\[3\]"):
        DatasetWriter(root, other, 10, resume=True)
    with pytest.raises(DataError, match="fps: the data set has 10, the writer 5"):
        DatasetWriter(root, FEATURES, 5, resume=True)
    assert same(root, numbers)


def test_finalizing_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no episode"):
        DatasetWriter(tmp_path / "set", FEATURES, 10).finalize()
    root = write_numbers(tmp_path / "full", (3,))
    kept = shutil.copytree(root, tmp_path / "kept")
    writer = DatasetWriter(root, FEATURES, 10, resume=True)
    writer.finalize()
    assert same(root, kept)
    with pytest.raises(DataError, match="has ended this writer"):
        writer.add_episode(columns(3, 0), "more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((5, 2))}, "unknown feature 'actions', did you mean 'action'?"),
        ({"action": None}, "feature 'action' is missing"),
        ({"action": np.zeros((5, 3))}, r"feature 'action': expected shape \(5, 2\), found \(5, 3\)"),
        ({"action": np.zeros((4, 2))}, "feature 'action' has 4 frames, 'observation.state' has 5"),
        ({"action": np.full((5, 2), np.nan)}, r"feature 'action': frame 0 is not finite: \[nan nan\]"),
        ({"action": np.full((5, 2), 1e300)}, "feature 'action': frame 0 is not finite"),
        ({"observation.cells": np.zeros((5, 2, 1, 2))}, "'observation.cells': expected dtype int32, found float64"),
        ({"observation.cells": np.full((5, 2, 1, 2), 2**40)}, "'observation.cells': values do not fit int32"),
        ({"phase": ["a", "b", 3, "d", "e"]}, "feature 'phase': frame 2: expected a string, found 3"),
        ({"observation.images.top": np.zeros((5, 30, 48, 3), np.uint8)}, r"frame 0: expected \(32, 48, 3\) uint8"),
        ({"observation.images.top": np.zeros((5, 32, 48, 3))}, "found .* float64"),
        ({"observation.images.skin": iter(np.zeros((3, 8, 6, 3), np.uint8))}, "'observation.images.skin': .*found 3"),
    ],
)
def test_wrong_episodes_are_refused_whole(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    writer = DatasetWriter(tmp_path / "set", FEATURES | CAMERAS, 10)
    episode = {k: v for k, v in {**with_cameras(5, 0), **change}.items() if v is not None}
    with pytest.raises(DataError, match=message):
        writer.add_episode(episode, "go")
    assert (writer.num_episodes, writer.num_frames) == (0, 0)
    writer.add_episode(with_cameras(5, 0), "go")
    assert open_dataset(writer.finalize()).num_frames == 5


def test_tasks_are_one_or_one_a_frame(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", FEATURES, 10)
    with pytest.raises(DataError, match="task: expected one string or 3, found 2"):
        writer.add_episode(columns(3, 0), ["a", "b"])
    writer.add_episode(columns(3, 0), ["a", "b", "a"])
    writer.add_episode(columns(2, 0), "b")
    dataset = open_dataset(writer.finalize())
    assert [dataset.item(i)["task"] for i in range(5)] == ["a", "b", "a", "b", "b"]
    assert dataset.table.tasks == (("a", "b"), ("b",))


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("a/b", {"dtype": "float32", "shape": [1]}, "'a/b' is not allowed"),
        ("index", {"dtype": "int64", "shape": [1]}, "'index' is not allowed"),
        ("x", {"dtype": "float32"}, "feature 'x' needs a 'shape'"),
        ("x", {"dtype": "complex64", "shape": [1]}, "feature 'x': dtype: expected one of bool, .*found 'complex64'"),
        ("x", {"dtype": "video", "shape": [8, 8, 1]}, r"camera 'x': expected 3 channels .*, found 1"),
        ("x", {"dtype": "language", "shape": [1]}, "'x': language columns can be read but not written"),
        ("x", {"dtype": "float32", "shape": [0]}, "expected 1 to 5 positive sizes"),
    ],
)
def test_features_that_no_reader_could_use_are_refused(
    tmp_path: Path, name: str, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        DatasetWriter(tmp_path / "set", {name: entry}, 10)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("shape", "better"), [([31, 48, 3], "32 x 48"), ([33, 33, 3], "34 x 34"), ([2, 2, 3], "4 x 4")]
)
def test_sizes_that_video_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path, shape, better) -> None:
    found = f"view: video needs an even height and width of at least 4, found {shape[0]} x {shape[1]}; use {better}"
    with pytest.raises(DataError, match=found):
        DatasetWriter(tmp_path / "set", {"view": {"dtype": "video", "shape": shape}}, 10)
    assert not list(tmp_path.iterdir())
    writer = DatasetWriter(tmp_path / "set", {"view": {"dtype": "image", "shape": shape}}, 10)
    writer.add_episode({"view": images(3, *shape[:2], 0)}, "go")
