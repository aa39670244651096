"""Damage inside videos and images is found by decoding, with file, episode and frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sets import GOLDEN
from tests.data.test_video import CAMERA, COUNT, B, made

from nextmove import jobs
from nextmove.cli.main import main
from nextmove.data import doctor, open_dataset
from nextmove.data.deep import Decoding, parts

NOISE = np.random.default_rng(0).integers(0, 255, (COUNT, 64, 64, 3)).astype(np.uint8)


def rotten(root: Path, at: float, *, short: bool = False) -> Path:
    """A set whose video is damaged from `at` seconds on: one packet of zeros, or all packets behind it lost."""
    made(root, options=B, frames=list(NOISE), container={"movflags": "faststart"})
    path = next(root.rglob("*.mp4"))
    with av.open(str(path)) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.pts and p.pts * p.time_base >= at]
    raw = bytearray(path.read_bytes())
    for place, size in places if short else places[:1]:
        raw[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(raw)
    return root


def test_damage_inside_a_video_is_found_by_decoding(tmp_path: Path) -> None:
    root = rotten(tmp_path / "set", 2.4)
    assert [f for f in doctor(root) if f.level == "error"] == []
    shallow = jobs.inspect(root)
    assert "decode" not in shallow
    found = jobs.inspect(root, deep=True, workers=0)
    assert found.errors == 1
    (line,) = (line for line in found.splitlines() if "error: decode" in line)
    first = int(line.split("the first at frame ")[1].split()[0].rstrip(","))
    assert 20 <= first <= 24
    assert f"({CAMERA}, episode 0, frame {first}, {next(root.rglob('*.mp4'))})" in line


def test_all_that_follows_a_loss_is_counted(tmp_path: Path) -> None:
    root = rotten(tmp_path / "set", 2.4, short=True)
    dataset = open_dataset(root)
    (part,) = parts(dataset)
    assert (part.episodes, part.frames) == ((0,), COUNT)
    ((finding,),) = (Decoding(root)(part)[1],)
    assert int(finding.message.split()[0]) >= 16


@pytest.mark.parametrize("version", ["v3", "v21"])
def test_whole_sets_have_no_damage_and_broken_images_are_named(tmp_path: Path, version: str) -> None:
    golden = GOLDEN / f"lerobot_dataset_{version}" / "dataset"
    work = Decoding(golden)
    found = parts(work.dataset)
    cameras = [f for f in work.dataset.layout.features.values() if f.is_camera]
    assert sum(p.frames for p in found) == len(cameras) * work.dataset.num_frames
    assert [f for part in found for f in work(part)[1]] == []
    images = next(f.name for f in cameras if not f.is_video)
    root = Path(shutil.copytree(golden, tmp_path / "set"))
    path = sorted((root / "data").rglob("*.parquet"))[0]
    table = pq.read_table(path)
    blobs = table.column(images).to_pylist()
    blobs[4]["bytes"] = blobs[4]["bytes"][:60]
    place = table.schema.get_field_index(images)
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(blobs, table.schema.field(place).type)), path
    )
    ((finding,),) = ([f for p in found if p.camera == images for f in Decoding(root)(p)[1]],)
    assert (finding.feature, finding.episode, finding.frame) == (images, 0, 4)
    assert str(path) in finding.message


def test_frames_of_another_size_than_described_are_said(tmp_path: Path) -> None:
    made(tmp_path, options=B)
    info = tmp_path / "meta/info.json"
    info.write_text(info.read_text().replace("[64, 64, 3]", "[32, 64, 3]"))
    work = Decoding(tmp_path)
    ((finding,),) = (work(parts(work.dataset)[0])[1],)
    assert (finding.level, finding.message) == ("warning", "frames are [64, 64, 3], info.json says [32, 64, 3]")


def test_inspect_ends_with_1_for_errors_and_with_0_for_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(GOLDEN / "lerobot_dataset_v21" / "dataset", tmp_path / "set"))
    assert main(["inspect", str(root)]) == 0
    assert "warning" in capsys.readouterr().out
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_frames": 1}))
    assert main(["inspect", str(root)]) == 1
    assert "error: totals" in capsys.readouterr().out
