"""Windows against a naive loop, and the loader's order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.sets import FEATURES, LENGTHS, columns

from nextmove.contracts import Rng, normal
from nextmove.data import DataError, DatasetWriter, Loader, Windows, open_dataset, shuffle
from nextmove.data.dataset import rows_of, window
from nextmove.data.shuffle import Shuffle


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.lists(st.integers(-20, 20), min_size=1, max_size=6),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_window_is_clamped_like_a_loop_over_frames(
    lengths: list[int], offsets: list[int], data: st.DataObject
) -> None:
    stops = np.cumsum(lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, int(stops[-1]) - 1), min_size=1, max_size=8)))
    episode = np.searchsorted(stops, rows, side="right")
    held, pad = window(rows, np.array(offsets), stops[episode] - np.array(lengths)[episode], stops[episode])
    for b, row in enumerate(rows.tolist()):
        e = next(i for i, stop in enumerate(stops) if row < stop)
        frames = list(range(stops[e] - lengths[e], stops[e]))
        for n, offset in enumerate(offsets):
            inside = row + offset in frames
            nearest = min(frames, key=lambda f: abs(f - (row + offset)))
            assert (held[b, n], pad[b, n]) == (nearest, not inside)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=6))
def test_rows_of_spans(spans: list[tuple[int, int]]) -> None:
    start = np.array([s for s, _ in spans], np.int64)
    length = np.array([n for _, n in spans], np.int64)
    assert rows_of(start, start + length).tolist() == [r for s, n in spans for r in range(s, s + n)]


@given(st.integers(0, sum(LENGTHS) - 1), st.lists(st.integers(-9, 9), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_batch_is_the_items_of_lerobot(numbers: Path, index: int, offsets: list[int]) -> None:
    dataset = open_dataset(numbers)
    batch = Windows(dataset, obs_offsets=offsets, action_offsets=offsets).batch([index])
    deltas = [o / 10 for o in offsets]
    names = ["observation.state", "observation.grid", "observation.cells", "action"]
    item = dataset.item(index, dict.fromkeys(names, deltas))
    for name in names:
        assert batch[name].dtype == torch.float32
        torch.testing.assert_close(batch[name][0], item[name].float(), rtol=0, atol=0)
    assert torch.equal(batch["action_is_pad"][0], item["action_is_pad"])
    for name in ("index", "episode_index", "task_index"):
        assert batch[name].dtype == torch.int64
        assert batch[name][0] == item[name]


def test_windows_of_chosen_episodes_stay_inside_them(numbers: Path) -> None:
    windows = Windows(open_dataset(numbers), ["observation.state"], episodes=[0, 2])
    assert len(windows) == LENGTHS[0] + LENGTHS[2]
    batch = windows.batch(range(len(windows)))
    assert sorted(set(batch["episode_index"].tolist())) == [0, 2]
    assert batch["index"].tolist() == [*range(7), *range(8, 20)]
    assert batch["action"].shape == (19, 16, 2)
    assert batch["action_is_pad"].sum(1).tolist()[6:8] == [14, 4]
    assert batch["task"] == ["even"] * 19


def test_instructions_come_row_by_row_where_there_are_any(numbers: Path, tmp_path: Path) -> None:
    loader = Loader(Windows(open_dataset(numbers)), batch=6, seed=2)
    batch = loader.step(1)
    assert batch["task"] == [("even", "odd")[i % 2] for i in batch["episode_index"].tolist()]
    assert len(set(batch["task"])) == 2
    wanted = Windows(open_dataset(numbers), ["observation.state", "task"])
    assert wanted.observations == ("observation.state",)
    assert wanted.batch([0, 7])["task"] == ["even", "odd"]
    for name, found in (("none", "task_index 0 has no task; there are none"), ("empty", "found only empty ones")):
        writer = DatasetWriter(tmp_path / name, FEATURES, 10)
        writer.add_episode(columns(3, 0), "" if name == "empty" else "x")
        root = writer.finalize()
        if name == "none":
            (root / "meta/tasks.parquet").unlink()
            info = json.loads((root / "meta/info.json").read_text())
            (root / "meta/info.json").write_text(json.dumps({**info, "total_tasks": 0}))
        assert "task" not in Windows(open_dataset(root)).batch([0])
        with pytest.raises(DataError, match=f"{name}: .*{found}"):
            Windows(open_dataset(root), ["observation.state", "task"])


def test_a_feature_of_one_number_keeps_an_axis(numbers: Path) -> None:
    windows = Windows(open_dataset(numbers), ["next.reward"], (0,), (0, 1), action="next.reward")
    assert windows.batch([0, 1])["next.reward"].shape == (2, 2, 1)


def test_cameras_come_as_bytes(filmed: Path) -> None:
    dataset = open_dataset(filmed)
    names = ["observation.state", "observation.images.top", "observation.images.skin"]
    batch = Windows(dataset, names).batch([7, 8, 19])
    assert batch["observation.images.top"].shape == (3, 2, 32, 48, 3)
    assert batch["observation.images.top"].dtype == torch.uint8
    for name in names[1:]:
        frames = dataset.video(name).frames(np.array([7, 7, 8, 8, 18, 19])).reshape(batch[name].shape)
        np.testing.assert_array_equal(batch[name], frames)


def test_requests_that_cannot_be_met_are_named(numbers: Path) -> None:
    dataset = open_dataset(numbers)
    with pytest.raises(DataError, match=r"unknown feature 'observation.stat', did you mean"):
        Windows(dataset, ["observation.stat"])
    with pytest.raises(DataError, match="'phase': expected numbers, found string"):
        Windows(dataset, ["phase"])
    with pytest.raises(DataError, match="obs_offsets: expected at least one"):
        Windows(dataset, obs_offsets=())
    with pytest.raises(DataError, match="window 25: there are 25"):
        Windows(dataset).batch([3, 25])


def batches(loader: Loader, count: int) -> list[dict[str, torch.Tensor]]:
    steps = iter(loader)
    return [dict(next(steps)) for _ in range(count)]


def equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)


def noisy(batch: dict[str, Any], rng: Rng) -> dict[str, Any]:
    return {**batch, "action": batch["action"] + normal(batch["action"].shape, rng)}


def test_every_window_comes_once_an_epoch(numbers: Path) -> None:
    loader = Loader(Windows(open_dataset(numbers)), batch=6, seed=3)
    order = np.concatenate([loader.indices(s) for s in range(25)])
    for epoch in range(6):
        assert sorted(order[epoch * 25 : epoch * 25 + 25]) == list(range(25))
    assert not np.array_equal(order[:25], order[25:50])
    assert not np.array_equal(order[:6], Loader(loader.windows, batch=6, seed=4).indices(0))


def test_the_shuffle_is_the_same_for_ever() -> None:
    places = np.arange(8)
    assert Shuffle(8, 0, 0)[places].tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert Shuffle(8, 0, 1)[places].tolist() != Shuffle(8, 1, 0)[places].tolist()


def test_a_shuffle_sorted_in_parts_is_the_order_of_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 5000
    draws = np.random.PCG64(np.random.SeedSequence([1, 2])).random_raw(count)
    monkeypatch.setattr(shuffle, "LARGE", 1000)
    monkeypatch.setattr(shuffle, "BLOCK", 1 << 9)
    found = Shuffle(count, 1, 2)
    wanted = np.argsort(draws, kind="stable")
    assert np.array_equal(found[np.arange(count)], wanted)
    places = np.random.default_rng(0).integers(0, count, 64)
    assert np.array_equal(found[places], wanted[places])


def test_a_batch_may_be_larger_than_the_set(numbers: Path) -> None:
    loader = Loader(Windows(open_dataset(numbers)), batch=60)
    counts = np.bincount(loader.indices(0), minlength=25)
    assert sorted(set(counts.tolist())) == [2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(filmed: Path, workers: int) -> None:
    dataset = open_dataset(filmed)
    windows = Windows(dataset, ["observation.state", "observation.images.top"])
    alone = batches(Loader(windows, batch=5, seed=1, augment=noisy), 7)
    before = torch.get_rng_state()
    helped = batches(Loader(windows, batch=5, seed=1, workers=workers, augment=noisy), 7)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_a_run_resumes_at_any_step(numbers: Path) -> None:
    windows = Windows(open_dataset(numbers))
    whole = batches(Loader(windows, batch=4, seed=5, augment=noisy), 10)
    rest = batches(Loader(windows, batch=4, seed=5, start=6, augment=noisy), 4)
    assert all(equal(a, b) for a, b in zip(whole[6:], rest, strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_global_batch(numbers: Path, world: int) -> None:
    windows = Windows(open_dataset(numbers))
    whole = batches(Loader(windows, batch=8, augment=noisy), 5)
    parts = [batches(Loader(windows, batch=8, rank=r, world=world, augment=noisy), 5) for r in range(world)]
    for step, expected in enumerate(whole):
        joined = {k: torch.cat([part[step][k] for part in parts]) for k in expected if k != "task"}
        joined["task"] = [text for part in parts for text in part[step]["task"]]
        assert equal(joined, expected)


def test_impossible_loaders_are_refused(numbers: Path) -> None:
    windows = Windows(open_dataset(numbers))
    with pytest.raises(DataError, match="batch: expected a positive multiple of world = 3, found 8"):
        Loader(windows, batch=8, world=3)
    with pytest.raises(DataError, match="rank: expected 0 to 1, found 2"):
        Loader(windows, batch=8, rank=2, world=2)
    with pytest.raises(DataError, match="expected at least one, found none"):
        Loader(Windows(open_dataset(numbers), episodes=[]))
