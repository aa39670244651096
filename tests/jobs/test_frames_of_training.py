"""Training on cameras: from a store of decoded frames, and without the episodes whose videos are missing or damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextmove import data, jobs
from nextmove.config import ConfigError
from nextmove.encoders import Camera, FilmedCamera, Observation, State
from nextmove.models.policy.bc_z import BcZ
from nextmove.nn.small_resnet import SmallResNet

SMALL = FilmedCamera(Camera(pool="average", backbone=SmallResNet((8, 16))))
RECIPE = BcZ(
    encoder=Observation((SMALL, State(("observation.state",), view="plain"))), optim=replace(BcZ().optim, batch=4)
)
CAMERA = "observation.images.top"


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes of 12 frames, each with a video file of its own."""
    number = {"dtype": "float32", "shape": [2]}
    features: dict[str, Any] = {"observation.state": number, "action": number}
    features[CAMERA] = {"dtype": "video", "shape": [40, 48, 3]}
    root = tmp_path_factory.mktemp("filmed") / "set"
    writer = data.DatasetWriter(root, features, 10, video_files_size_in_mb=1e-6)
    for episode in range(6):
        rng = np.random.default_rng(episode)
        numbers = {name: rng.normal(size=(12, 2)).astype(np.float32) for name in ("observation.state", "action")}
        writer.add_episode({**numbers, CAMERA: rng.integers(0, 256, (12, 40, 48, 3), dtype=np.uint8)}, "push")
    return writer.finalize()


@pytest.fixture
def root(filmed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filmed, tmp_path / "set"))


def video(root: Path, episode: int) -> Path:
    return root / f"videos/{CAMERA}/chunk-000/file-{episode:03d}.mp4"


def damage(path: Path) -> None:
    """A packet of zeros in a video whose index stays."""
    with av.open(str(path)) as file:
        place, size = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size][4]
    content = bytearray(path.read_bytes())
    content[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(content)


def train(root: Path, **options: Any) -> Any:
    return jobs.train("bc-z", root, out=root.parent / "run", steps=1, recipe=RECIPE, threads=1, bf16="off", **options)


def test_a_training_makes_the_store_and_gives_the_numbers_of_decoding(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = train(root)
    assert "frames: decoding 72" in capsys.readouterr().out
    other = jobs.train(
        "bc-z", root, out=tmp_path / "b", steps=1, recipe=RECIPE, threads=1, bf16="off", frame_store_gb=0
    )
    assert "--frame-store-gb is 0" in capsys.readouterr().out
    assert policy.facts["loss"] == other.facts["loss"]


def test_frames_that_two_episodes_share_are_said_before_training(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table, name = pq.read_table(path), f"videos/{CAMERA}/file_index"
    numbers = pa.array([0, 0, 2, 3, 4, 5], table.schema.field(name).type)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, numbers), path)
    train(root)
    said = f"warning: {CAMERA}: {video(root, 0)}: episodes 0 and 1 show the same frames of it, 0 to 1.1 s"
    assert said in capsys.readouterr().out


def test_missing_videos_are_all_named_before_anything_is_decoded(root: Path) -> None:
    for episode in (1, 4):
        video(root, episode).unlink()
    with pytest.raises(data.DataError, match="no images of 2 of 6 episodes") as caught:
        train(root)
    message = str(caught.value)
    assert str(video(root, 1)) in message
    assert str(video(root, 4)) in message
    assert "--leave-out-broken, or --leave-out 1 4" in message
    assert not (root / ".frames").exists()
    policy = train(root, leave_out=(1, 4))
    assert policy.facts["episodes"] + len(policy.facts["held_episodes"]) == 4


def test_where_no_episode_has_images_none_is_to_be_left_out(root: Path) -> None:
    for episode in range(6):
        video(root, episode).unlink()
    with pytest.raises(data.DataError, match="no images of 6 of 6 episodes") as caught:
        train(root)
    assert str(caught.value).endswith("mend them, for none is left")
    with pytest.raises(ConfigError, match="frame_store_gb: expected 0 or more, found -1"):
        train(root, frame_store_gb=-1)


def test_episodes_with_broken_videos_can_be_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video(root, 0).unlink()
    damage(video(root, 3))
    video(root, 5).write_bytes(video(root, 5).read_bytes()[:400])
    with pytest.raises(data.DataError, match="--leave-out-broken"):
        train(root)
    policy = train(root, leave_out_broken=True)
    said = capsys.readouterr().out
    assert f"left out: {root}: no images of 1 of 6 episodes (0)" in said
    assert f"left out: {root}: no images of 2 of 6 episodes (3, 5)" in said
    assert f"{video(root, 3)}: frame" in said
    assert policy.facts["episodes"] + len(policy.facts["held_episodes"]) == 3


def test_without_a_store_files_that_cannot_be_opened_are_found_and_damage_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video(root, 5).write_bytes(video(root, 5).read_bytes()[:400])
    policy = train(root, leave_out_broken=True, frame_store_gb=0)
    assert "(5)" in capsys.readouterr().out
    assert policy.facts["episodes"] + len(policy.facts["held_episodes"]) == 5
    for episode in range(5):
        damage(video(root, episode))
    shutil.rmtree(root.parent / "run")
    with pytest.raises(data.DataError, match=r"cannot be decoded.* 'observation\.images\.top', episode \d, frame"):
        train(root, leave_out_broken=True, frame_store_gb=0)


def test_frames_are_kept_at_the_size_that_the_encoder_resizes_to(root: Path, tmp_path: Path) -> None:
    part = RECIPE.encoder.parts[0]
    assert isinstance(part, FilmedCamera)
    parts = (replace(part, camera=replace(part.camera, resize=(36, 40), crop=(33, 36))), *RECIPE.encoder.parts[1:])
    recipe = replace(RECIPE, encoder=replace(RECIPE.encoder, parts=parts))
    losses = []
    for gb in (20, 0):
        out = tmp_path / str(gb)
        policy = jobs.train("bc-z", root, out=out, steps=1, recipe=recipe, threads=1, bf16="off", frame_store_gb=gb)
        losses.append(policy.facts["loss"])
    assert [path.name for path in (root / ".frames").glob("obs*")] == [f"{CAMERA}-36x40"]
    assert losses[0] == losses[1]


def test_inspect_names_episodes_without_images_and_kept_frames(root: Path) -> None:
    video(root, 0).unlink()
    damage(video(root, 3))
    shown = jobs.inspect(root)
    assert "video file of 'observation.images.top' is missing; it is to show episode 0" in shown
    assert "no images of 1 of 6 episodes (0); nextmove train leaves them out with --leave-out-broken" in shown
    assert "no images of 2 of 6 episodes (0, 3)" in jobs.inspect(root, deep=True, workers=0)
    assert "decoded frames" not in shown
    train(root, leave_out_broken=True)
    assert f"decoded frames in {root / '.frames'} ({CAMERA}-40x48 0.000415 GB)" in jobs.inspect(root)


def test_workers_are_started_only_where_something_is_decoded(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def loader(*args: Any, workers: int, **options: Any) -> data.Loader:
        used.append(workers)
        return data.Loader(*args, workers=workers, **options)

    monkeypatch.setattr("nextmove.jobs.fit.Loader", loader)
    for gb, workers in ((20, 0), (0, 1)):
        out = tmp_path / str(gb)
        jobs.train("bc-z", root, out=out, steps=1, recipe=RECIPE, threads=1, bf16="off", frame_store_gb=gb, workers=1)
        assert used.pop() == workers
        assert ("workers: 0 in place of 1" in capsys.readouterr().out) == (workers == 0)


@pytest.mark.usefixtures("unrendered")
def test_what_cannot_be_watched_is_not_judged_and_said(root: Path, tmp_path: Path) -> None:
    train(root, leave_out=(0, 2, 5))
    run = root.parent / "run"
    video(root, 2).unlink()
    video(root, 5).write_bytes(video(root, 5).read_bytes()[:400])
    with pytest.raises(data.DataError, match=r"no images of 2 of \d episodes \(2, 5\)") as caught:
        jobs.evaluate(run, data=root, out=tmp_path / "a", windows=8)
    assert str(caught.value).endswith("mend them, or judge without them: --leave-out 2 5")
    found = jobs.evaluate(run, data=root, out=tmp_path / "a", windows=8, leave_out=(2, 5))
    assert 0 in found["data"]["numbers"]
    assert not {2, 5} & set(found["data"]["numbers"])
    with pytest.raises(ValueError, match="leave_out: expected episodes 0 to 5, found 6"):
        jobs.evaluate(run, data=root, out=tmp_path / "a", leave_out=(6,))
    with pytest.raises(ConfigError, match="leave_out: for offline judging, which needs --data"):
        jobs.evaluate(run, leave_out=(1,))
    runs = (run, Path(shutil.copytree(run, tmp_path / "twin")))
    with pytest.raises(data.DataError, match="--leave-out 2 5"):
        jobs.compare(root, runs=runs, out=tmp_path / "b", windows=8)
    both = jobs.compare(root, runs=runs, out=tmp_path / "b", windows=8, leave_out=(2, 5))
    assert both["data"]["numbers"] == found["data"]["numbers"]


def test_a_frame_damaged_inside_a_video_says_how_to_judge_without_its_episode(root: Path, tmp_path: Path) -> None:
    train(root, leave_out=(0, 2, 5))
    damage(video(root, 5))
    with pytest.raises(data.DataError, match="episode 5, frame") as caught:
        jobs.evaluate(root.parent / "run", data=root, out=tmp_path / "a", windows=0, leave_out=(2,))
    assert str(caught.value).endswith("mend it, or judge without it: --leave-out 2 5")


@pytest.mark.usefixtures("unrendered")
def test_a_comparison_neither_trains_nor_judges_on_what_is_left_out(root: Path, tmp_path: Path) -> None:
    video(root, 3).unlink()
    asked: dict[str, Any] = {"entries": ("bc",), "offline": True, "steps": 1, "windows": 8, "out": tmp_path / "c"}
    found = jobs.compare(root, **asked, leave_out=(3,))
    assert 3 not in found["data"]["numbers"]
    assert found["policies"].keys() == {f"bc-n{5 - len(found['data']['numbers'])}-s0"}
