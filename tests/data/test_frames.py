"""Stores of decoded frames: the same pixels as decoding gives, made once, known to be up to date, bounded."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextmove import data
from nextmove.contracts.pixels import resized
from nextmove.data import frame_store, frames
from nextmove.data.frame_build import Building, Piece
from nextmove.data.frames import stored_frames
from nextmove.encoders.pictures import Pictures
from nextmove.host.lock import hold

TOP, SKIN = "observation.images.top", "observation.images.skin"
SIZES = {TOP: (32, 48), SKIN: (8, 6)}


@pytest.fixture
def root(filmed: Path, tmp_path: Path) -> Path:
    """A set with a video and an image camera, in several files and segments, that a test may change."""
    return Path(shutil.copytree(filmed, tmp_path / "set"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few episodes."""
    monkeypatch.setattr(frame_store, "SEGMENT", 12 * 32 * 48 * 3)


def stored(root: Path, sizes: Any = None, episodes: Any = None, **options: Any) -> tuple[Any, list[str]]:
    """Cameras of the set's stores, and what was said."""
    dataset, said = data.open_dataset(root), list[str]()
    chosen = dataset.episodes if episodes is None else np.array(episodes)
    options = {"limit": 1e9, "say": said.append, **options}
    return stored_frames(dataset, sizes or SIZES, chosen, **options), said


def test_stored_frames_are_the_decoded_ones_and_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data.open_dataset(root)
    found, said = stored(root)
    assert len(list((root / ".frames" / f"{TOP}-32x48").iterdir())) > 1
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(dataset.num_frames), 2))
    for name in SIZES:
        np.testing.assert_array_equal(found.cameras[name].frames(rows), dataset.video(name).frames(rows))
    assert found.broken == {}
    assert "decoding 50" in said[0]
    monkeypatch.setattr(frames, "run_tasks", None)
    again, said = stored(root)
    assert "decoded before" in said[0]
    np.testing.assert_array_equal(again.cameras[TOP].frames(rows), found.cameras[TOP].frames(rows))
    assert data.doctor(root) == []


def test_windows_read_a_store_as_they_read_the_set(root: Path) -> None:
    dataset, names = data.open_dataset(root), ["observation.state", *SIZES]
    cameras = stored(root)[0].cameras
    own, other = (data.Windows(dataset, names, (-2, 0), frames=given) for given in (None, cameras))
    for loader in (data.Loader(other, 8), data.Loader(other, 8, workers=1)):
        for step, batch in zip(range(4), loader, strict=False):
            expected = own.batch(loader.indices(step))
            for name in names:
                torch.testing.assert_close(batch[name], expected[name], rtol=0, atol=0)


def test_a_store_is_sent_to_another_process_as_its_files(root: Path) -> None:
    camera = stored(root)[0].cameras[TOP]
    sent = pickle.dumps(camera)
    assert len(sent) < 4000
    rows = np.array([3, 1, 20])
    np.testing.assert_array_equal(pickle.loads(sent).frames(rows), camera.frames(rows))


def test_frames_are_brought_to_their_size_as_encoders_do(root: Path) -> None:
    found, _ = stored(root, {TOP: (12, 20)})
    rows = np.arange(10)
    full = torch.from_numpy(data.open_dataset(root).video(TOP).frames(rows))
    got = torch.from_numpy(found.cameras[TOP].frames(rows))
    assert found.cameras[TOP].feature.shape == (12, 20, 3)
    torch.testing.assert_close(got, resized(full, (12, 20)), rtol=0, atol=0)
    pictures = Pictures(resize=(12, 20))
    torch.testing.assert_close(pictures(got[:, None]), pictures(full[:, None]), rtol=0, atol=0)


def test_only_what_is_asked_for_is_decoded_and_added_to_later(root: Path) -> None:
    found, said = stored(root, {TOP: (32, 48)}, [0])
    assert "decoding 20" in said[0]
    with pytest.raises(data.DataError, match=r"images.top': row 20 is not among the frames"):
        found.cameras[TOP].frames(np.array([20]))
    _, said = stored(root, {TOP: (32, 48)})
    assert "decoding 5" in said[0]


def test_parts_whose_source_has_changed_are_made_anew_and_only_those(root: Path) -> None:
    before, _ = stored(root, {TOP: (32, 48)})
    kept = before.cameras[TOP].frames(np.arange(25))
    videos = sorted((root / "videos" / TOP).glob("*/*.mp4"))
    os.utime(videos[-1])
    _, said = stored(root, {TOP: (32, 48)})
    assert "decoded before" in said[0], "another time of change is no change"
    other = videos[0]  # of the first episodes
    content = bytearray(other.read_bytes())
    content[-1] ^= 1  # of the end of the file, which no frame needs
    other.write_bytes(content)
    _, said = stored(root, {TOP: (32, 48)})
    assert "1 of 2 parts anew" in said[0]
    np.testing.assert_array_equal(before.cameras[TOP].frames(np.arange(25)), kept)


def test_half_written_and_foreign_segments_count_as_absent(root: Path) -> None:
    stored(root, {TOP: (32, 48)})
    first, second = sorted((root / ".frames" / f"{TOP}-32x48").iterdir())
    first.write_bytes(first.read_bytes()[:-5])
    second.write_bytes(b"")
    found, said = stored(root, {TOP: (32, 48)})
    assert "decoding 25" in said[0]
    assert found.broken == {}


def test_what_is_too_large_is_decoded_as_before_and_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = stored(root, limit=1000)
    assert found is None
    assert "would take 0.000119 GB" in said[0]
    assert "a larger --frame-store-gb than 1e-06 keeps them" in said[0]
    assert "--frame-store-gb is 0" in stored(root, limit=0)[1][0]
    monkeypatch.setattr(frames, "room", lambda path: frames.SPARE + 1000)
    found, said = stored(root)
    assert found is None
    assert "where 1e-06 GB may be used" in said[0]


def test_stores_unused_longest_make_room(root: Path) -> None:
    stored(root, {TOP: (30, 40)})
    os.utime(root / ".frames" / f"{TOP}-30x40", (1, 1))
    stored(root, {TOP: (8, 8)})
    _, said = stored(root, {TOP: (32, 48)}, limit=130_000)
    assert f"{TOP}-30x40 is removed" in said[0]
    assert sorted(path.name for path in (root / ".frames").glob("obs*")) == [f"{TOP}-32x48", f"{TOP}-8x8"]


def test_a_full_disk_leaves_nothing_and_frames_are_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Building, piece: Piece) -> Any:
        return OSError(28, "No space left on device", str(piece.path))

    monkeypatch.setattr(Building, "__call__", full)
    found, said = stored(root)
    assert found is None
    assert "cannot be kept" in said[-1]
    assert "No space left on device" in said[-1]
    assert not list((root / ".frames").rglob("segment*"))


def test_sets_that_cannot_be_written_to_have_their_frames_in_the_cache(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(frames, "_writable", lambda root: False)
    _, said = stored(root)
    assert str(tmp_path / "cache" / "nextmove" / "frames") in said[0]
    assert not (root / ".frames").exists()
    assert "decoded before" in stored(root)[1][0]


def test_a_second_run_waits_and_reads_what_the_first_made(root: Path) -> None:
    said: list[str] = []
    with hold(root / ".frames"):
        other = threading.Thread(target=lambda: said.extend(stored(root)[1]))
        other.start()
        time.sleep(0.5)
        assert said == []
        first, own = stored(root)
        assert "decoding 50" in own[0]
    other.join(timeout=60)
    assert first is not None
    assert len(said) <= 1
    assert "decoding" not in "".join(said)
