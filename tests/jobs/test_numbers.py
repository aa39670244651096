"""Numbers of a data set that are wrong, far outside all others or lost by float32, in training and judging."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.sets import LENGTHS, edit, put, write_numbers

from nextmove import data, jobs
from nextmove.cli.main import main


def spoilt(root: Path, name: str, row: int, value: float) -> Path:
    """A set of which one number is changed."""
    rng = np.random.default_rng(0)
    width = {"observation.state": 3, "action": 2}
    features = {n: {"dtype": "float32", "shape": [w], "names": None} for n, w in width.items()}
    writer = data.DatasetWriter(root, features, 10)
    for episode in range(4):
        columns = {n: rng.normal(size=(50, w)).astype(np.float32) for n, w in width.items()}
        columns["observation.state"][:, 1] = 0.5
        if episode == 1:
            columns[name][row, 0] = value
        writer.add_episode(columns, "x")
    return writer.finalize()


@pytest.mark.parametrize("name", ["action", "observation.state"])
def test_training_refuses_a_number_beside_which_all_others_are_one(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoilt(tmp_path / "set", name, 7, 1e30)
    assert main(["train", "bc", str(root), "--steps", "1", "--out", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr()
    assert re.search(
        rf"set: error: range: 1 frames far outside .* in dimension 0, the first 1e\+30; .*{name}", printed.err
    )
    assert "episode 1, frame 7" in printed.err
    (finding,) = [f for f in data.doctor(root) if f.level == "error"]
    assert str(finding) in printed.err


def test_training_says_what_the_doctor_finds_in_what_it_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spoilt(tmp_path / "set", "action", 9, 40.0)
    jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert printed == [str(f) for f in data.doctor(root)]
    assert [line.split(": ")[1] for line in printed] == ["constant", "range"]
    assert "1 frames far outside" in printed[1]


def test_training_warns_of_numbers_that_float32_loses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"observation.clock": "float64", "observation.ticks": "int64", "action": "float32"}
    features = {n: {"dtype": kind, "shape": [1], "names": None} for n, kind in kinds.items()}
    writer, steps = data.DatasetWriter(tmp_path / "set", features, 10), np.arange(40)
    for _ in range(2):
        made = {"observation.clock": 1.7e9 + 0.1 * steps, "observation.ticks": 2**24 + steps}
        writer.add_episode(made | {"action": np.sin(steps).astype(np.float32)}, "x")
    jobs.train("bc", writer.finalize(), out=tmp_path / "run", steps=1, threads=1)
    printed = capsys.readouterr().out
    assert "warning: precision: models compute in float32, which rounds dimension 0 by 3.9 of a range of 3.9" in printed
    assert "which rounds dimension 0 by 1 of a range of 39; subtract what never changes (observation.ticks)" in printed


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"dtype": "float32", "shape": []}, r"float32 of shape \[\]"),
        ({"dtype": "float32", "shape": [1, 2]}, r"float32 of shape \[1, 2\]"),
        ({"dtype": "string", "shape": [1]}, r"string of shape \[1\]"),
    ],
)
def test_actions_that_are_no_row_of_numbers_are_named(tmp_path: Path, entry: dict[str, Any], found: str) -> None:
    path = write_numbers(tmp_path / "set") / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"] = entry
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=rf"set: action: expected numbers of one axis, .*found {found}"):
        jobs.train("bc", tmp_path / "set", out=tmp_path / "run", steps=1, threads=1)


@pytest.mark.parametrize("name", ["observation.state", "action"])
@pytest.mark.parametrize(("episode", "frame"), [(0, 3), (1, 0), (2, 11), (3, 4)])
def test_nan_in_stored_episodes_is_named_held_out_ones_included(
    tmp_path: Path, name: str, episode: int, frame: int
) -> None:
    root = write_numbers(tmp_path / "set")
    edit(root, 0, name, put((sum(LENGTHS[:episode]) + frame, 1), np.nan))
    place = rf"{root}: {name}: episode {episode}, frame {frame}: expected finite numbers, found nan in dimension 1"
    with pytest.raises(data.DataError, match=rf"{place}; `nextmove inspect {root}` lists all"):
        jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, holdout=0.25)


def test_nan_in_judged_demonstrations_is_named(tmp_path: Path) -> None:
    root = write_numbers(tmp_path / "set")
    jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, holdout=0)
    edit(root, 0, "action", put((3, 1), np.nan))
    with pytest.raises(data.DataError, match="action: episode 0, frame 3: expected finite numbers, found nan"):
        jobs.evaluate(tmp_path / "run", data=root)


def test_nan_in_episodes_that_are_not_used_does_not_matter(tmp_path: Path) -> None:
    root = write_numbers(tmp_path / "set")
    edit(root, 0, "action", put((-1, 0), np.inf))
    edit(root, 0, "next.reward", put(0, np.nan))
    jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, episodes=3)


def test_nan_in_the_data_is_named(tmp_path: Path) -> None:
    vector = {"dtype": "float32", "shape": [2], "names": None}
    writer = data.DatasetWriter(tmp_path / "set", {"observation.state": vector, "action": vector}, 10)
    columns = {"observation.state": np.zeros((5, 2), np.float32), "action": np.ones((5, 2), np.float32)}
    writer.add_episode(columns, "x")
    columns["observation.state"][3, 1] = np.nan
    with pytest.raises(ValueError, match=r"observation\.state.*frame 3"):
        writer.add_episode(columns, "x")
