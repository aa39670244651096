"""Depth maps, in video as codes and in parquet as 16-bit images."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from tests.data.sets import GOLDEN

from nextmove.data import DataError, Dataset, DatasetWriter, doctor, images, open_dataset
from nextmove.data.depth import dequantize, quantize
from nextmove.data.stats import describe

THEIRS = GOLDEN / "lerobot_depth"
HALF_STEP = 1000 * 13.5 * math.log(13.5 / 3.51) / 4095 / 2 + 0.5
"""Of the codes, at the largest depth, and of whole millimetres; mm."""
LINEAR = {"video.use_log": False, "video.depth_min": 0.0, "video.depth_max": 4.095}
ACTION = {"action": {"dtype": "float32", "shape": [2]}}


def camera(unit: str | None = "m", **info: Any) -> dict[str, Any]:
    """The entry of a depth camera."""
    return {"dtype": "video", "shape": [16, 24, 1], "info": {"is_depth_map": True, "depth_unit": unit, **info}}


def written(root: Path, columns: dict[str, np.ndarray], lengths: tuple[int, ...], **cameras: Any) -> Path:
    """A set of these frames, cut into episodes."""
    writer, start = DatasetWriter(root, ACTION | cameras, 10), 0
    for length in lengths:
        part = {name: values[start : start + length] for name, values in columns.items()}
        writer.add_episode({"action": np.zeros((length, 2), np.float32), **part}, "reach")
        start += length
    return writer.finalize()


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """What LeRobot was given, reads and makes of single depths."""
    return load_file(THEIRS / "expected.safetensors")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, expected: dict[str, np.ndarray]) -> Dataset:
    """The same frames as LeRobot was given, written here."""
    given = {name: expected[f"given/{name}"] for name in ("near", "far")}
    root = tmp_path_factory.mktemp("ours") / "set"
    return open_dataset(written(root, given, (4, 3), near=camera("m"), far=camera("mm")))


@pytest.mark.parametrize("unit", ["m", "mm"])
def test_codes_are_lerobots_also_of_what_was_not_measured(expected: dict[str, np.ndarray], unit: str) -> None:
    np.testing.assert_array_equal(quantize(expected[f"codes/{unit}/in"], {}), expected[f"codes/{unit}/out"])
    missing = np.array([0, np.nan, -np.inf, np.inf], np.float32)
    assert dequantize(quantize(missing, {}), {}).tolist() == [10, 10, 10, 10000]


def test_codes_are_inverted_to_half_a_step() -> None:
    depth = np.linspace(10, 10000, 777)
    assert np.abs(dequantize(quantize(depth / 1000, {}), {}) - depth).max() <= HALF_STEP
    assert dequantize(np.array([0, 4095], np.uint16), {}).tolist() == [10.0, 10000.0]
    assert dequantize(np.array([0, 7, 4095], np.uint16), LINEAR).tolist() == [0.0, 7.0, 4095.0]
    assert quantize(np.array([0, 7, 5000], np.uint16), LINEAR).tolist() == [0, 7, 4095]


def test_what_is_written_is_what_lerobot_writes(ours: Dataset, expected: dict[str, np.ndarray]) -> None:
    theirs, rows = open_dataset(THEIRS / "dataset"), np.arange(7)
    assert not [finding for finding in doctor(ours) if finding.level == "error"]
    for name, unit in {"near": 1000, "far": 1}.items():
        assert ours.features[name] == theirs.features[name]
        read = ours.video(name).frames(rows)
        np.testing.assert_array_equal(read, theirs.video(name).frames(rows))
        assert np.abs(read - expected[f"read/{name}"]).max() <= 1, "LeRobot's exponential may round otherwise"
        assert np.abs(read - (unit * expected[f"given/{name}"]).clip(10, 10000)).max() <= HALF_STEP


def test_statistics_are_of_the_depths_in_their_unit(ours: Dataset) -> None:
    theirs = open_dataset(THEIRS / "dataset").stats
    for name, unit in {"near": 1000, "far": 1}.items():
        exact = describe(ours.video(name).frames(np.arange(7)).reshape(-1) / unit)
        for key, values in ours.stats[name].items():
            assert values.shape == theirs[name][key].shape
            np.testing.assert_allclose(values.ravel(), [7] if key == "count" else exact[key], atol=0.6 / unit)
        np.testing.assert_allclose(ours.stats[name]["mean"], theirs[name]["mean"], rtol=0.01)


def test_depths_are_added_to_a_set_of_lerobots(tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    root = Path(shutil.copytree(THEIRS / "dataset", tmp_path / "set"))
    with pytest.raises(DataError, match=r"feature 'far': the data set has .*'mm'.*, the writer .*'m'"):
        DatasetWriter(root, {**ACTION, "near": camera("m"), "far": camera("m")}, 10, resume=True)
    nearer = camera("m", **{"video.depth_max": 4})
    with pytest.raises(DataError, match=r"feature 'near': the data set has .*, the writer .*'video.depth_max': 4.0"):
        DatasetWriter(root, {**ACTION, "near": nearer, "far": camera("mm")}, 10, resume=True)
    writer = DatasetWriter(root, {**ACTION, "near": camera("m"), "far": camera("mm")}, 10, resume=True)
    given = {name: expected[f"given/{name}"][:2] for name in ("near", "far")}
    writer.add_episode({"action": np.zeros((2, 2), np.float32), **given}, "reach")
    grown = open_dataset(writer.finalize())
    np.testing.assert_array_equal(
        grown.video("far").frames(np.array([7, 8])), grown.video("far").frames(np.array([0, 1]))
    )
    assert grown.stats["near"]["count"].tolist() == [9]
    assert abs(grown.stats["near"]["mean"] - open_dataset(THEIRS / "dataset").stats["near"]["mean"]) < 0.1


def test_other_depths_have_codes_of_their_own(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0, 4.095, (2, 16, 24, 1))
    found = open_dataset(written(tmp_path / "set", {"d": depth}, (2,), d=camera("m", **LINEAR)))
    assert np.abs(found.video("d").frames(np.arange(2)) - 1000 * depth).max() <= 0.5 + 1e-3
    assert {key: found.features["d"]["info"][key] for key in LINEAR} == LINEAR


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (camera(None), r"'d': info.depth_unit: expected 'm' \(floats\) or 'mm' \(uint16\), found None"),
        (camera("cm"), "found 'cm'"),
        (camera() | {"dtype": "image"}, "'d': dtype: expected 'video' of a depth map, found 'image'"),
        (camera() | {"shape": [16, 24, 3]}, "'d': expected 1 channel of a depth map, found 3"),
        ({"dtype": "video", "shape": [16, 24, 1]}, r"'d': expected 3 channels \(1 with info.is_depth_map\), found 1"),
        (camera() | {"shape": [15, 24, 1]}, "d: depth needs a height and width of at least 16, found 15 x 24"),
        (camera(**{"video.depth_max": 0.005}), "video.depth_min < video.depth_max, found 0.01 and 0.005"),
        (camera(**{"video.shift": -1}), "video.shift: expected more than -0.01, found -1"),
        (camera(**{"video.shift": "far"}), "'d': info: .*video.shift.*: expected numbers"),
    ],
)
def test_depth_cameras_that_cannot_be_stored_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DatasetWriter(tmp_path / "set", {**ACTION, "d": entry}, 10)


@pytest.mark.parametrize(
    ("unit", "frame", "message"),
    [
        ("m", np.zeros((16, 24, 1), np.uint16), r"float64 of depth_unit 'm', found \(16, 24, 1\) uint16"),
        (
            "mm",
            np.zeros((16, 24, 1), np.float32),
            r"expected \(16, 24, 1\) uint16 of depth_unit 'mm', found .* float32",
        ),
        ("mm", np.zeros((16, 24, 1), np.int32), "camera 'd': frame 0: .*found .* int32"),
        ("m", np.zeros((16, 24), np.float32), r"found \(16, 24\) float32"),
    ],
)
def test_frames_of_another_kind_are_refused(tmp_path: Path, unit: str, frame: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path / "set", {"d": frame[None]}, (1,), d=camera(unit))


def test_depth_is_no_image_for_generators() -> None:
    with pytest.raises(DataError, match="expected a camera feature that is no depth map"):
        images(THEIRS / "dataset")


@pytest.fixture
def deep(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """The golden set with two of its cameras exchanged for depth maps (98, H, W) in millimetres."""
    root = Path(shutil.copytree(GOLDEN / "lerobot_dataset_v3" / "dataset", tmp_path / "set"))
    depth = np.random.default_rng(0).integers(100, 9000, (98, 32, 48)).astype(np.float64)
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    maps: dict[str, Any] = {"is_depth_map": True, "depth_unit": "mm"}
    info["features"]["observation.images.top"] |= {"shape": [32, 48, 1], "info": maps}
    info["features"]["observation.images.tactile"] |= {"shape": [32, 48, 1], "info": maps}
    path.write_text(json.dumps(info))
    place = 0
    for part in sorted(root.glob("videos/observation.images.top/*/*.mp4")):
        with av.open(str(part)) as source:
            count = sum(1 for _ in source.decode(video=0))
        with av.open(str(part), "w") as out:
            stream = out.add_stream("libx265", rate=10, options={"x265-params": "lossless=1:log-level=none"})
            stream.width, stream.height, stream.pix_fmt = 48, 32, "gray12le"
            for frame in quantize(depth[place : place + count].astype(np.uint16), {}):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray12le")))
            out.mux(stream.encode(None))
        place += count
    place = 0
    for part in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(part)
        blobs = [_tiff(d) for d in depth[place : place + table.num_rows]]
        number = table.schema.get_field_index("observation.images.tactile")
        field = table.schema.field(number)
        column = pa.array([{"bytes": b, "path": ""} for b in blobs], field.type)
        pq.write_table(table.set_column(number, field, column), part)
        place += table.num_rows
    return root, depth


def _tiff(depth: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(depth.astype(np.uint16)).save(out, "TIFF")
    return out.getvalue()


def test_depth_cameras_give_millimetres(deep: tuple[Path, np.ndarray]) -> None:
    root, depth = deep
    dataset = open_dataset(root)
    item = dataset.item(45, {"observation.images.tactile": [-0.1, 0.0]})
    assert item["observation.images.top"].shape == (1, 32, 48)
    assert item["observation.images.top"].dtype == torch.float32
    np.testing.assert_array_equal(item["observation.images.tactile"][:, 0], depth[44:46])
    rows = np.array([97, 0, 50, 60])
    found = dataset.video("observation.images.top").frames(rows)
    np.testing.assert_array_equal(found[..., 0], dequantize(quantize(depth[rows].astype(np.uint16), {}), {}))
