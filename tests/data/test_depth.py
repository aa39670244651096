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
from tests.data.sets import GOLDEN

from nextmove.data import open_dataset
from nextmove.data.depth import dequantize


def quantize(millimetres: np.ndarray) -> np.ndarray:
    """LeRobot's code of a depth, from its definition."""
    low, high = math.log(0.01 + 3.5), math.log(10 + 3.5)
    return np.rint(4095 * (np.log(millimetres / 1000 + 3.5) - low) / (high - low)).astype(np.uint16)


def test_codes_are_inverted_to_half_a_step() -> None:
    depth = np.linspace(10, 10000, 777)
    step = (13.5 * math.log(13.5 / 3.51) / 4095) * 1000
    assert np.abs(dequantize(quantize(depth), {}) - depth).max() <= step / 2 + 0.5
    assert dequantize(np.array([0, 4095], np.uint16), {}).tolist() == [10.0, 10000.0]
    linear = {"video.use_log": False, "video.depth_min": 0.0, "video.depth_max": 4.095}
    assert dequantize(np.array([0, 7, 4095], np.uint16), linear).tolist() == [0.0, 7.0, 4095.0]


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
            for frame in quantize(depth[place : place + count]):
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
    np.testing.assert_array_equal(found[..., 0], dequantize(quantize(depth[rows]), {}))
