"""Episodes are known by what they hold, not by where or in which order or file it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextmove import data
from nextmove.data import identity, outline

NAMES = ("observation.state", "observation.goal")


def episodes(seed: int, count: int = 6, length: int = 40) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    goal = np.ones((length, 2), np.float32)
    return [
        {
            "observation.state": rng.normal(size=(length + i, 3)).astype(np.float32),
            "observation.goal": np.resize(goal, (length + i, 2)),
            "action": rng.normal(size=(length + i, 2)).astype(np.float32),
        }
        for i in range(count)
    ]


def stored(root: Path, rows: list[dict[str, np.ndarray]], dtype: str = "float32", **options: float) -> data.Dataset:
    entries = {n: {"dtype": dtype, "shape": [x.shape[1]], "names": None} for n, x in rows[0].items()}
    writer = data.DatasetWriter(root, entries, 10, **options)
    for row in rows:
        writer.add_episode({n: x.astype(dtype) for n, x in row.items()}, "x")
    writer.finalize()
    return data.open_dataset(root)


def test_an_episode_keeps_its_hash_in_other_files_orders_and_widths(tmp_path: Path) -> None:
    rows = episodes(0)
    known = identity.identify(stored(tmp_path / "a", rows), NAMES)
    assert len(set(known.episodes.tolist())) == 6
    small = identity.identify(stored(tmp_path / "b", rows, data_files_size_in_mb=1e-6), NAMES[::-1])
    assert small.episodes.tolist() == known.episodes.tolist()
    assert small.features == known.features
    wide = identity.identify(stored(tmp_path / "c", rows[::-1], "float64"), NAMES)
    assert wide.episodes.tolist() == known.episodes.tolist()[::-1]
    assert wide.features != known.features
    some = identity.identify(data.open_dataset(tmp_path / "a").select([1, 4]), NAMES)
    assert some.episodes.tolist() == known.episodes[[1, 4]].tolist()
    assert some.starts.tolist() == known.starts[[1, 4]].tolist()
    assert identity.start({n: rows[4][n][0].tolist() for n in NAMES}, NAMES) == int(known.starts[4])


@pytest.mark.parametrize("name", [*NAMES, "action"])
def test_one_changed_number_changes_the_hash_of_its_episode_and_feature(tmp_path: Path, name: str) -> None:
    rows = episodes(0)
    before = identity.identify(stored(tmp_path / "a", rows), NAMES)
    rows[2][name][17, 1] = np.nextafter(rows[2][name][17, 1], np.float32(np.inf))
    after = identity.identify(stored(tmp_path / "b", rows), NAMES)
    assert np.flatnonzero(before.episodes != after.episodes).tolist() == [2]
    assert [n for n in before.features if before.features[n] != after.features[n]] == [name]
    assert identity.whole(before.features) != identity.whole(after.features)


def test_an_instruction_is_part_of_an_episode_for_who_reads_it(tmp_path: Path) -> None:
    rows = episodes(0, 3)
    a = stored(tmp_path / "a", rows)
    writer = data.DatasetWriter(tmp_path / "b", {n: a.features[n] for n in rows[0]}, 10)
    for row, tasks in zip(rows, ("x", "push", ["x"] * 22 + ["push"] * 20), strict=True):
        writer.add_episode(row, tasks)
    b = data.open_dataset(writer.finalize())
    assert identity.identify(a, NAMES).episodes.tolist() == identity.identify(b, NAMES).episodes.tolist()
    one, other = (identity.identify(dataset, [*NAMES, "task"]) for dataset in (a, b))
    assert (one.episodes == other.episodes).tolist() == [True, False, False]
    assert len(set(other.episodes.tolist())) == 3
    assert [n for n in one.features if one.features[n] != other.features[n]] == ["task"]
    assert one.starts.tolist() == other.starts.tolist() == identity.identify(a, NAMES).starts.tolist()
    known = identity.traces(a, [*NAMES, "task"])
    assert identity.sharing(b, known, [*NAMES, "task"]).tolist() == [True] * 3
    assert outline.outlines(a, [*NAMES, "task"]) == outline.outlines(b, NAMES)
    shown = {n: rows[1][n][0] for n in NAMES} | {"task": "push"}
    assert identity.start(shown, [*NAMES, "task"]) == int(other.starts[1])


@pytest.mark.parametrize("what", ["cut", "other observations", "other actions"])
def test_edited_copies_share_spans_and_other_episodes_do_not(tmp_path: Path, what: str) -> None:
    rows = episodes(0)
    known = identity.traces(stored(tmp_path / "a", rows), NAMES)
    assert len(known) == 12
    for row in rows[:3]:
        if what == "cut":
            row.update({n: x[4:-1] for n, x in row.items()})
        else:
            changed = "action" if what == "other actions" else "observation.state"
            row[changed] = row[changed] * 2
    edited = stored(tmp_path / "b", rows[:3] + episodes(1, 3))
    assert identity.sharing(edited, known, NAMES).tolist() == [True] * 3 + [False] * 3


def test_a_robot_at_rest_and_short_episodes_leave_no_trace(tmp_path: Path) -> None:
    still = [{n: np.ones((20, 2), np.float32) for n in (*NAMES, "action")} for _ in range(3)]
    assert len(identity.traces(stored(tmp_path / "a", still), NAMES)) == 0
    short = stored(tmp_path / "b", [{n: x[:5] for n, x in row.items()} for row in episodes(0)])
    assert len(identity.traces(short, NAMES)) == 0


def test_hashes_are_the_same_on_every_machine_and_survive_text(tmp_path: Path) -> None:
    ramp = np.arange(24, dtype=np.float32).reshape(12, 2)
    dataset = stored(tmp_path, [{"observation.state": ramp, "action": -ramp}])
    known = identity.identify(dataset, ["observation.state"])
    assert identity.to_hex(known.episodes) == "d92dc5c3094f8606"
    assert identity.whole(known.features) == "dfa03dd3d35f6856"
    assert identity.to_hex(identity.traces(dataset, ["observation.state"])) == "00a9d11db39fa37304db405e2051543d"
    assert identity.from_hex(identity.to_hex(known.episodes)).tolist() == known.episodes.tolist()


def test_traces_are_the_smallest_hashes_of_spans_that_come_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vector = {"dtype": "float32", "shape": [2]}
    writer = data.DatasetWriter(tmp_path / "set", {"observation.state": vector, "action": vector}, 10)
    for length in (400, 3, 8, 300, 30, 400):
        values = rng.integers(0, 2, (length, 2)).astype(np.float32)  # so few that many spans come twice
        values[50:250] = rng.normal(size=values[50:250].shape)
        writer.add_episode({"observation.state": values, "action": values[::-1].copy()}, "go")
    dataset = data.open_dataset(writer.finalize()).select([0, 1, 2, 4, 5])
    expected: set[int] = set()
    ends = np.cumsum(dataset.episode_to[dataset.episodes] - dataset.episode_from[dataset.episodes]).tolist()
    for name in ("observation.state", "action"):
        rows = identity._rows(dataset, [name]).tolist()
        spans: dict[int, list[int]] = {}
        for episode, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
            for at in range(first, last - identity.SPAN + 1):
                total = 0
                for row in rows[at : at + identity.SPAN]:
                    total = (total * int(identity._STEP) + row) % 2**64
                value = int(identity._mixed(np.array([total], np.uint64))[0])
                if value < int(identity._SOME):
                    spans.setdefault(value, []).append(episode)
        alone = sorted((value, found[0]) for value, found in spans.items() if len(found) == 1)
        expected |= set({episode: value for value, episode in reversed(alone)}.values())
    assert identity.traces(dataset, ["observation.state"]).tolist() == sorted(expected)
