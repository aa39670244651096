"""Opening, columns, frames and items; what is broken is named."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.data.sets import GOLDEN, LENGTHS, columns, images, with_cameras

from nextmove.data import DataError, doctor, open_dataset

V3 = GOLDEN / "lerobot_dataset_v3" / "dataset"
TACTILE = "observation.images.tactile"


def test_columns_have_the_stored_dtype_and_every_frame(numbers: Path) -> None:
    dataset = open_dataset(numbers)
    assert len(dataset) == dataset.num_frames == sum(LENGTHS)
    for name, expected in columns(LENGTHS[2], 2).items():
        found = dataset.column(name)[8:20]
        if name == "phase":
            assert found.tolist() == expected
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert dataset.column("observation.state") is dataset.column("observation.state")


def test_selected_episodes_are_counted_in_the_order_of_the_file(numbers: Path) -> None:
    dataset = open_dataset(numbers, episodes=[3, 0])
    assert dataset.episodes.tolist() == [0, 3]
    assert len(dataset) == LENGTHS[0] + LENGTHS[3]
    assert dataset.item(LENGTHS[0])["index"] == sum(LENGTHS[:3])
    assert dataset.item(-1)["episode_index"] == 3
    assert dataset.num_frames == sum(LENGTHS)
    with pytest.raises(DataError, match="episode 4 does not exist, there are 4"):
        dataset.select([4])


def test_an_item_is_lerobots(filmed: Path) -> None:
    dataset, given = open_dataset(filmed), with_cameras(LENGTHS[2], 2)
    start = sum(LENGTHS[:2])
    item = dataset.item(start + 1, {"action": [-0.2, 0.0, 0.1], "observation.images.skin": [0.0], "next.reward": [0.1]})
    np.testing.assert_array_equal(item["action"], given["action"][[0, 1, 2]])
    assert item["action_is_pad"].tolist() == [True, False, False]
    assert item["observation.grid"].dtype == torch.float32
    assert item["observation.cells"].dtype == torch.int64
    assert item["observation.images.skin"].shape == (1, 3, 8, 6)
    assert item["next.reward"].shape == (1,)
    assert item["next.done"].shape == ()
    assert (item["task"], item["phase"]) == ("then", "step 1 é")
    top = item["observation.images.top"]
    assert top.dtype == torch.float32
    assert top.shape == (3, 32, 48)
    np.testing.assert_allclose(top.permute(1, 2, 0) * 255, given["observation.images.top"][1], atol=20)
    raw = dataset.item(start + 1, {"observation.images.top": [0.0, 0.1]}, return_uint8=True)
    assert raw["observation.images.top"].dtype == torch.uint8
    assert raw["observation.images.top"].shape == (2, 3, 32, 48)
    assert raw["observation.images.skin"].dtype == torch.float32


def test_every_frame_of_every_file_is_the_right_one(filmed: Path) -> None:
    dataset = open_dataset(filmed)
    expected = np.concatenate([images(n, 32, 48, e) for e, n in enumerate(LENGTHS)]).astype(float)
    frames = dataset.video("observation.images.top").frames(dataset.rows)
    assert frames.dtype == np.uint8
    assert np.abs(frames - expected).mean((1, 2, 3)).max() < 4
    skin = np.concatenate([with_cameras(n, e)["observation.images.skin"] for e, n in enumerate(LENGTHS)])
    np.testing.assert_array_equal(dataset.video("observation.images.skin").frames(dataset.rows), skin)


@pytest.mark.parametrize("cache", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("camera", ["observation.images.top", "observation.images.skin"])
def test_frames_do_not_depend_on_order_repetition_or_memory(filmed: Path, camera: str, cache: float) -> None:
    whole = open_dataset(filmed).video(camera).frames(np.arange(sum(LENGTHS)))
    view = open_dataset(filmed, frame_cache_mb=cache).video(camera)
    rng = np.random.default_rng(0)
    for _ in range(6):
        rows = rng.integers(0, sum(LENGTHS), 9)
        np.testing.assert_array_equal(view.frames(rows), whole[rows])


def test_h264_with_reordered_frames_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(V3, root)
    for path in root.glob("videos/observation.images.top/*/*.mp4"):
        with av.open(str(path)) as source:
            frames = [f.to_ndarray(format="rgb24") for f in source.decode(video=0)]
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=10, options={"g": "10", "bf": "3", "crf": "8"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
    rows = np.random.default_rng(0).permutation(98)
    expected = open_dataset(V3).video("observation.images.top").frames(rows).astype(float)
    found = open_dataset(root).video("observation.images.top").frames(rows)
    assert np.abs(found - expected).mean((1, 2, 3)).max() < 7


def test_an_opened_set_can_be_sent_to_another_process(filmed: Path) -> None:
    dataset = open_dataset(filmed, frame_cache_mb=1)
    rows = np.array([3, 9])
    expected = dataset.video("observation.images.top").frames(rows)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.video("observation.images.top").frames(rows), expected)


def test_unknown_names_are_refused_with_the_nearest(numbers: Path) -> None:
    dataset = open_dataset(numbers)
    with pytest.raises(DataError, match=r"unknown feature 'observation.stat', did you mean 'observation.state'\?"):
        dataset.column("observation.stat")
    with pytest.raises(DataError, match="unknown feature 'actions'"):
        dataset.item(0, {"actions": [0.0]})
    with pytest.raises(DataError, match=r"delta_timestamps\['action'\]: 0.05 s is no multiple of 1 / 10 s"):
        dataset.item(0, {"action": [0.05]})
    with pytest.raises(DataError, match="no camera but float32"):
        dataset.video("action")
    with pytest.raises(DataError, match="frame 25 does not exist, 25 are selected"):
        dataset.item(25)


def test_a_camera_is_no_column(filmed: Path) -> None:
    with pytest.raises(DataError, match=r"'observation.images.top' is a camera"):
        open_dataset(filmed).column("observation.images.top")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the golden set to be damaged."""
    return Path(shutil.copytree(V3, tmp_path / "set"))


@pytest.mark.parametrize("file", ["data/chunk-000/file-001.parquet", "meta/tasks.parquet"])
def test_a_truncated_parquet_file_is_named(broken: Path, file: str) -> None:
    path = broken / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{file}: not a readable parquet file, truncated"):
        open_dataset(broken).item(40)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
def test_a_truncated_video_is_named(broken: Path, keep: float) -> None:
    path = broken / "videos/observation.images.top/chunk-000/file-000.mp4"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    dataset = open_dataset(broken)
    with pytest.raises(DataError, match=r"observation.images.top/chunk-000/file-000.mp4: .*truncated"):
        dataset.video("observation.images.top").frames(dataset.rows)


def test_a_missing_video_and_a_missing_table_are_named(broken: Path) -> None:
    (broken / "videos/observation.images.top/chunk-000/file-000.mp4").unlink()
    with pytest.raises(DataError, match=r"file-000.mp4: video file of 'observation.images.top' is missing"):
        open_dataset(broken).item(0)
    (broken / "data/chunk-001/file-000.parquet").unlink()
    with pytest.raises(DataError, match="the episodes name 98 frames, the data files hold 83"):
        open_dataset(broken).column("action")


def edit(root: Path, change: Any) -> None:
    """Rewrite the first data file."""
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def test_a_missing_column_is_named(broken: Path) -> None:
    edit(broken, lambda t: t.drop_columns(["action"]))
    with pytest.raises(DataError, match=r"file-000.parquet: column 'action' is missing"):
        open_dataset(broken).column("action")


def test_a_value_that_is_absent_is_named(broken: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        rewards = table.column("next.reward").to_pylist()
        rewards[7] = None
        return table.set_column(3, "next.reward", pa.array(rewards, pa.float32()))

    edit(broken, change)
    with pytest.raises(DataError, match=r"feature 'next.reward' has no value in row 7"):
        open_dataset(broken).column("next.reward")


def test_a_list_of_another_length_is_named(broken: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        actions = table.column("action").to_pylist()
        actions[4] = actions[4][:3]
        return table.set_column(1, "action", pa.array(actions, pa.list_(pa.float32())))

    edit(broken, change)
    with pytest.raises(
        DataError, match=r"feature 'action': expected shape \[4\], found a list of length 3 at position 4"
    ):
        open_dataset(broken).column("action")


def test_wider_types_and_free_lists_are_cast_to_the_declared_type(broken: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        actions = pa.array(table.column("action").to_pylist(), pa.list_(pa.float64()))
        return table.set_column(1, "action", actions).replace_schema_metadata(None)

    edit(broken, change)
    np.testing.assert_array_equal(open_dataset(broken).column("action"), open_dataset(V3).column("action"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("codebase_version", "v1.6", "expected v2.0, v2.1 or v3.x, found 'v1.6'"),
        ("codebase_version", None, "missing key 'codebase_version'"),
        ("fps", 0, "fps: expected a positive number, found 0"),
        ("fps", True, "fps: expected a positive number, found True"),
        ("fps", float("nan"), "fps: expected a positive number, found nan"),
        ("chunks_size", "x", r"info\.json: chunks_size: expected a whole number of at least 1, found 'x'"),
        (
            "features",
            {"c": {"dtype": "video", "shape": [4, 4, 3], "info": 1}},
            "info: expected an object, found 1",
        ),
        ("features", {"action": {"dtype": "float32"}}, "feature 'action' needs a 'shape'"),
        ("features", ["action"], r"info\.json: features: expected an object by name, found list"),
        ("features", {"action": {"dtype": "float99", "shape": [2]}}, "feature 'action': dtype: .*found 'float99'"),
    ],
)
def test_a_wrong_description_is_refused(broken: Path, key: str, value: Any, message: str) -> None:
    path = broken / "meta/info.json"
    info = json.loads(path.read_text())
    info[key] = value
    path.write_text(json.dumps({k: v for k, v in info.items() if v is not None}))
    with pytest.raises(DataError, match=message):
        open_dataset(broken)


def test_a_description_that_is_no_object_is_refused(broken: Path) -> None:
    (broken / "meta/info.json").write_text("[1]")
    with pytest.raises(DataError, match=r"info\.json: expected an object, found list"):
        open_dataset(broken)


def test_a_timestamp_without_a_frame_is_refused(broken: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        late = table.column("timestamp").to_numpy() + np.float32(0.03)
        return table.set_column(table.schema.get_field_index("timestamp"), "timestamp", pa.array(late))

    edit(broken, change)
    with pytest.raises(DataError, match=r"'observation.images.top' has no frame at 0.03"):
        open_dataset(broken).item(0)


@pytest.mark.parametrize(
    ("shape", "names", "wrong"),
    [
        ([3, 48, 64], ["channels", "height", "width"], False),
        ([3, 48, 64], {"axes": ["channel", "height", "width"]}, False),
        ([3, 48, 64], None, False),
        ([48, 64, 3], {"axes": ["height", "width", "channel"]}, False),
        ([64, 48, 3], ["width", "height", "channels"], False),
        ([3, 48, 64], ["height", "width", "channel"], True),
        ([48, 64, 3], ["channel", "height", "width"], True),
        ([3, 64, 48], ["height", "width", "channel"], True),
        ([64, 48, 3], ["height", "width", "channels"], True),
        ([48, 64, 3], ["rgb"], False),
    ],
)
def test_cameras_are_read_whatever_order_they_claim_and_a_wrong_claim_is_said(
    broken: Path, shape: list[int], names: Any, wrong: bool
) -> None:
    path = broken / "meta/info.json"
    info = json.loads(path.read_text())
    entry = info["features"]["observation.images.top"]
    entry |= {"shape": shape, "names": names}
    path.write_text(json.dumps(info))
    dataset = open_dataset(broken)
    feature = dataset.layout.feature("observation.images.top")
    assert feature.shape == (48, 64, 3)
    assert dataset.item(0)["observation.images.top"].shape == (3, 48, 64)
    said = [finding for finding in doctor(dataset) if finding.check == "layout"]
    assert bool(said) == wrong
    if wrong:
        assert f"shape {shape} is not in the order of its names" in str(said[0])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tasks", 1, r"episode 0: tasks: expected a list of instructions, found 1"),
        ("dataset_to_index", -5, r"episode 0: expected a first and a later last row, found rows 0 to -5"),
    ],
)
def test_a_table_of_episodes_that_is_none_is_named(broken: Path, name: str, value: int, message: str) -> None:
    path = sorted((broken / "meta/episodes").rglob("*.parquet"))[0]
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, pa.array([value] * len(table))), path)
    with pytest.raises(DataError, match=message):
        open_dataset(broken)


def test_a_column_that_holds_no_images_is_named(broken: Path) -> None:
    edit(broken, lambda t: t.set_column(t.schema.get_field_index(TACTILE), TACTILE, pa.array([1.0] * len(t))))
    with pytest.raises(DataError, match=r"file-000\.parquet: column .*: expected encoded images, found double"):
        open_dataset(broken).video(TACTILE).frames(np.array([0]))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([["a", "b", "c", "d", "e", "f"]], ""),
        ({"axes": {"left": ["a", "b", "c"], "right": ["d", "e", "f"]}}, ""),
        (["state"], ""),
        (None, ""),
        (["a", "b"], "names: expected 6, found 2, which are not used"),
    ],
)
def test_names_that_are_not_one_a_dimension_are_said(broken: Path, names: Any, said: str) -> None:
    path = broken / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["observation.state"]["names"] = names
    path.write_text(json.dumps(info))
    found = [str(finding) for finding in doctor(open_dataset(broken)) if finding.check == "layout"]
    assert len(found) == bool(said)
    assert all(said in finding for finding in found)
