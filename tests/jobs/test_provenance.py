"""What a policy was trained on is known by content: nothing it has seen is judged as if it had not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextmove import data, jobs, store

LENGTHS = (12, 13, 14, 15, 16, 17, 18, 19)
FRAMES = sum(LENGTHS)
Rows = list[dict[str, np.ndarray]]


def noise(seed: int, lengths: tuple[int, ...] = LENGTHS) -> Rows:
    rng = np.random.default_rng(seed)
    names = ("observation.state", "action")
    return [{n: rng.normal(size=(length, 2)).astype(np.float32) for n in names} for length in lengths]


def stored(root: Path, rows: Rows, dtype: str = "float32") -> Path:
    vector = {"dtype": dtype, "shape": [2], "names": None}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    for row in rows:
        writer.add_episode({n: x.astype(dtype) for n, x in row.items()}, "x")
    return writer.finalize()


pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set `demos` and a policy `run` that a quarter of its episodes was kept from."""
    home = tmp_path_factory.mktemp("home")
    stored(home / "demos", noise(0))
    jobs.train("bc", home / "demos", out=home / "run", steps=2, threads=1, holdout=0.25)
    return home


@pytest.fixture(scope="module")
def held(home: Path) -> list[int]:
    return list(store.read_config(home / "run" / "model")["facts"]["held_episodes"])


def judged(run: Path, demos: str | Path, out: Path) -> dict[str, Any]:
    jobs.evaluate(run, data=demos, out=out)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    assert report["task"].split(": ")[-1] in (out / "report.html").read_text()
    return report


@pytest.mark.parametrize("where", ["same", "relative", "linked", "moved", "wide", "backwards", "some", "merged"])
def test_only_episodes_it_was_not_trained_on_are_judged_wherever_they_lie(
    home: Path, held: list[int], tmp_path: Path, where: str
) -> None:
    rows, new = noise(0), noise(1, (30,))
    demos: str | Path = tmp_path / "demos"
    expected = sum(LENGTHS[e] for e in held)
    if where == "same":
        demos = home / "demos"
    elif where == "relative":
        demos = os.path.relpath(home / "demos")
    elif where == "linked":
        Path(demos).symlink_to(home / "demos")
    elif where == "moved":
        shutil.copytree(home / "demos", demos)
    elif where == "wide":
        stored(Path(demos), rows, "float64")
    elif where == "backwards":
        stored(Path(demos), rows[::-1])
    elif where == "some":
        stored(Path(demos), [rows[e] for e in range(8) if e not in held[1:]])
        expected = LENGTHS[held[0]]
    else:
        stored(Path(demos), rows[:5] + new + rows[5:])
        expected += 30
    report = judged(home / "run", demos, tmp_path / "out")
    (policy,) = report["policies"].values()
    assert policy["offline"]["windows"] == expected
    assert "kept from training" in report["task"]
    assert "may have been trained on" not in report["verdict"]
    assert report["data"]["episodes"]["seen"] == 6
    assert ("new" in report["data"]["episodes"]) == (where == "merged")
    assert policy["facts"]["weights_hash"] == store.weights_hash(home / "run")
    assert "content" not in policy["facts"]


def test_where_nothing_else_is_left_training_episodes_are_judged_and_called_so(
    home: Path, held: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = stored(tmp_path / "seen", [row for e, row in enumerate(noise(0)) if e not in held])
    report = judged(home / "run", seen, tmp_path / "out")
    assert "out of the 6 episodes that the policy was trained on." in report["task"]
    assert "It was trained on these episodes" in report["verdict"]
    assert "It was trained on these episodes" in capsys.readouterr().out
    assert "It was trained on these episodes" in (tmp_path / "out" / "report.html").read_text()


def test_edited_copies_may_have_been_trained_on(home: Path, tmp_path: Path) -> None:
    rows = [{n: x[:-1] for n, x in row.items()} for row in noise(0)]
    report = judged(home / "run", stored(tmp_path / "cut", rows), tmp_path / "out")
    assert "may have been trained on" in report["verdict"]
    assert report["data"]["episodes"]["alike"] >= 4
    # With episodes of its own besides, those are judged alone, and the others named.
    report = judged(home / "run", stored(tmp_path / "more", rows[:1] + noise(1)), tmp_path / "out")
    counts = report["data"]["episodes"]
    assert counts.get("alike", 0) + counts["new"] == 9
    assert ("may have been trained on" in report["verdict"]) == ("alike" in counts)


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.astype(np.float16).astype(np.float32),
        lambda x: np.degrees(np.radians(x)) + np.float32(1e-6),
        lambda x: np.round(x, 2),
    ],
    ids=["float16", "degrees", "rounded"],
)
def test_copies_whose_numbers_were_rounded_may_have_been_trained_on(
    home: Path, held: list[int], tmp_path: Path, changed: Callable[[np.ndarray], np.ndarray]
) -> None:
    rows = [{n: changed(x) for n, x in row.items()} for e, row in enumerate(noise(0)) if e not in held]
    report = judged(home / "run", stored(tmp_path / "copy", rows), tmp_path / "out")
    assert report["data"]["episodes"] == {"alike": 6}
    assert "may have been trained on" in report["verdict"]


def test_other_data_is_called_new(home: Path, tmp_path: Path) -> None:
    report = judged(home / "run", stored(tmp_path / "other", noise(1)), tmp_path / "out")
    assert f"{FRAMES} windows out of the 8 episodes that the policy was not trained on." in report["task"]
    assert "trained on" not in report["verdict"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_model_that_keeps_no_hashes_may_have_been_trained_on_it(
    home: Path, held: list[int], tmp_path: Path, moved: bool
) -> None:
    shutil.copytree(home / "run" / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["facts"].pop("content")
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    demos = shutil.copytree(home / "demos", tmp_path / "demos") if moved else home / "demos"
    report = judged(tmp_path / "model", demos, tmp_path / "out")
    assert "may have been trained on these episodes" in report["verdict"]
    (policy,) = report["policies"].values()
    # In the folder it was trained from numbers are better than nothing.
    assert policy["offline"]["windows"] == (FRAMES if moved else sum(LENGTHS[e] for e in held))


def test_a_saved_policy_keeps_what_it_was_trained_on_in_few_bytes(home: Path) -> None:
    facts = store.read_config(home / "run" / "model")["facts"]
    assert len(facts["content"]["trained"]) == 6 * 16
    assert len(facts["content"]["held"]) == 2 * 16
    assert max(map(len, (home / "run" / "model" / "README.md").read_text().splitlines())) < 400
    assert facts["content"]["trained"] not in jobs.inspect(home / "run")


@pytest.mark.usefixtures("short")
def test_demonstrated_seeds_are_counted_and_named(
    demos: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = store.read_config(run / "model")["facts"]
    recorded = json.loads((demos / "meta" / "recording.json").read_text())
    seeds = [s for s in range(4 + len(recorded["failed"])) if s not in recorded["failed"]]
    trained = [s for i, s in enumerate(seeds) if i not in facts["held_episodes"]]
    report = jobs.evaluate(run, episodes=6, seed=0, workers=0, video=0, out=tmp_path)
    (policy,) = report["policies"].values()
    assert policy["facts"]["demonstrated_seeds"] == {"pusht": [s for s in trained if s < 6]}
    assert f"{len(trained)} of the 6 seeds were demonstrated to flow" in report["verdict"]
    assert "seeds were demonstrated" in capsys.readouterr().out
    fresh = jobs.evaluate(run, episodes=1, workers=0, video=0, out=tmp_path)
    assert "demonstrated to" not in fresh["verdict"]
    assert fresh["policies"]["flow"]["facts"]["demonstrated_seeds"] == {}
