"""Comparisons without a simulator: the same episodes to learn from, the same ones to be judged on; finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.test_provenance import noise, stored

from nextmove import data, jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.jobs.compare_offline import judged_episodes
from nextmove.jobs.compare_runs import named

LENGTHS = tuple(range(20, 44))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("own") / "set", noise(0, LENGTHS))


SMALL: dict[str, Any] = {"entries": ("bc", "flow-policy@euler:1"), "steps": 3, "windows": 40, "offline": True}


@pytest.mark.usefixtures("unrendered")
def test_policies_are_compared_on_held_out_episodes_of_any_robot(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = jobs.compare(own, out=tmp_path, **SMALL)
    numbers, judged_on, _ = judged_episodes(data.open_dataset(own), 0.2)
    assert 2 <= len(numbers) <= 10
    assert report["data"]["numbers"] == numbers.tolist()
    assert report["data"]["hash"] == judged_on
    count = len(LENGTHS) - len(numbers)
    names = {f"bc-n{count}-s0", f"flow-policy-n{count}-s0-euler1"}
    assert set(report["policies"]) == names
    for name, policy in report["policies"].items():
        beside = policy["offline"]["beside"]
        assert beside["episodes"] == numbers.tolist()
        assert len(beside["errors"]) > 1
        run = tmp_path / "train" / name.removesuffix("-euler1")
        facts = store.read_config(run / "model")["facts"]
        assert facts["episodes"] + len(facts["held_episodes"]) == count
        assert not set(facts["held_episodes"]) & set(numbers.tolist())
        assert policy["facts"]["weights_hash"] == store.weights_hash(run)
        assert policy["facts"]["data_hash"]
    (pair,) = report["paired_errors"]["pairs"]
    assert {pair["a"], pair["b"]} == names
    assert pair["episodes"] == len(numbers)
    printed = capsys.readouterr().out
    assert f"judged on {len(numbers)} of 24 episodes" in printed
    assert "These episodes cannot tell it from" in printed or "beyond chance" in printed
    # BC plans one action: all are set beside each other in that alone.
    assert report["paired_errors"]["steps"] == 1
    assert "mean over the next action" in printed
    for name, error in {**report["paired_errors"]["means"], **report["paired_errors"]["baselines"]}.items():
        assert f"{error:.3f}" in next(line for line in printed.splitlines() if line.startswith(f"{name} "))
    page = (tmp_path / "report.html").read_text()
    assert "Paired errors" in page
    # Baselines are shown as far as the longest plan reaches, not as far as BC's one action.
    row = page.split('<tr class="baseline">')[1].split("</tr>")[0]
    assert row.count("<td></td>") == 3
    # What is done is kept.
    kept = {path: path.stat().st_mtime_ns for path in [*tmp_path.glob("judged/*"), *tmp_path.rglob("*.safetensors")]}
    assert jobs.compare(own, out=tmp_path, **SMALL)["policies"].keys() == names
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # Another number of windows is judged anew, and says so; other demonstrations are refused.
    jobs.compare(own, out=tmp_path, **{**SMALL, "windows": 50, "entries": ("bc",)})
    assert "the episodes or windows judged on were others since it was judged" in capsys.readouterr().out
    changed = stored(tmp_path / "changed", noise(1, LENGTHS))
    count = len(LENGTHS) - len(judged_episodes(data.open_dataset(changed), 0.2)[0])
    (tmp_path / "train" / f"bc-n{len(LENGTHS) - len(numbers)}-s0").rename(tmp_path / "train" / f"bc-n{count}-s0")
    with pytest.raises(ConfigError, match=r"was trained on other demonstrations than .*changed holds now"):
        jobs.compare(changed, out=tmp_path, **{**SMALL, "entries": ("bc",)})


def test_episodes_judged_on_are_never_trained_on_after_others_are_added(tmp_path: Path) -> None:
    few, many = noise(0, LENGTHS), noise(0, LENGTHS) + noise(1, LENGTHS)
    before = judged_episodes(data.open_dataset(stored(tmp_path / "few", few)), 0.2)[0]
    after = judged_episodes(data.open_dataset(stored(tmp_path / "many", many)), 0.2)[0]
    assert after[after < len(few)].tolist() == before.tolist()


@pytest.mark.usefixtures("unrendered")
def test_finished_runs_are_compared_on_what_none_was_trained_on(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / "a" / "bc", tmp_path / "b" / "bc"]
    jobs.train("bc", own, out=runs[0], steps=2, leave_out=(1, 2, 3, 4, 5), holdout=0)
    jobs.train("bc", own, out=runs[1], steps=2, seed=1, leave_out=(3, 4, 5, 6), holdout=0)
    copy = shutil.copytree(own, tmp_path / "copy")
    command = ["compare", str(copy), "--runs", *map(str, runs), "--out", str(tmp_path / "out"), "--windows", "0"]
    assert main(command) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["numbers"] == [3, 4, 5]
    assert set(report["policies"]) == {"a-bc", "b-bc"}
    assert report["policies"]["a-bc"]["offline"]["windows"] == sum(LENGTHS[3:6])
    assert "trained on" not in report["verdict"]
    assert main(command) == 0
    assert "a-bc: judged before, the same weights on the same episodes" in capsys.readouterr().out
    seen = stored(tmp_path / "seen", noise(0, LENGTHS)[6:])
    options: dict[str, Any] = {"runs": tuple(runs), "out": tmp_path / "out", "windows": 9}
    with pytest.raises(ConfigError, match=r"expected episodes that no run was trained on, found none .*a-bc 18 of 18"):
        jobs.compare(seen, **options)
    report = jobs.compare(seen, allow_trained=True, **options)
    assert "a-bc: It was trained on these episodes" in report["verdict"]
    # Weights trained anew are judged anew.
    jobs.compare(copy, **{**options, "windows": 0})
    shutil.rmtree(runs[0])
    jobs.train("bc", own, out=runs[0], steps=3, leave_out=(1, 2, 3, 4, 5), holdout=0)
    capsys.readouterr()
    report = jobs.compare(copy, **{**options, "windows": 0})
    printed = capsys.readouterr().out
    assert "a-bc: judged before" not in printed
    assert "b-bc: judged before" in printed
    # So are the same weights under a config that was changed.
    config = runs[1] / "model" / "config.json"
    config.write_text(config.read_text() + " ")
    jobs.compare(copy, **{**options, "windows": 0})
    assert "b-bc: judged before" not in capsys.readouterr().out
    assert report["policies"]["a-bc"]["facts"]["steps"] == 3


@pytest.mark.usefixtures("short", "unrendered")
def test_finished_runs_are_compared_on_seeds_that_none_was_shown(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    options: dict[str, Any] = {"runs": (run, other), "out": tmp_path / "out", "video": 0, "workers": 0}
    with pytest.raises(ConfigError, match=r"found \d of 4 demonstrated to flow .*choose others with --seed"):
        jobs.compare(seed=0, episodes=4, **options)
    report = jobs.compare(episodes=2, **options)
    assert set(report["policies"]) == {"flow", "other"}
    (pair,) = report["comparisons"]
    assert pair["episodes"] == 2
    assert pair["only_a"] == pair["only_b"] == 0
    report = jobs.compare(seed=0, episodes=1, allow_trained=True, **options)
    shown = report["policies"]["flow"]["facts"]["demonstrated_seeds"]
    assert ("demonstrated to flow" in report["verdict"]) == bool(shown)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "data_dir: expected a folder of demonstrations, or --runs"),
        ({"runs": ("a",)}, "runs: expected at least two, found 1"),
        ({"runs": ("a", "a")}, "runs: expected each run once, found a again"),
        ({"runs": ("a", "b"), "steps": 3}, "steps: for trainings; leave out --steps"),
        ({"runs": ("a", "b"), "windows": 3}, "windows: for demonstrations"),
        ({"data_dir": "x", "runs": ("a", "b"), "episodes": 3}, "episodes: for a simulator"),
        ({"data_dir": "x", "offline": True, "video": 1}, "video: for a simulator"),
        ({"data_dir": "x", "test": 0.5}, "test: for --offline"),
        ({"data_dir": "x", "offline": True, "test": 1.0}, "test: expected 0 to less than 1"),
        ({"data_dir": "x", "allow_trained": True}, "allow_trained: for finished runs"),
    ],
)
def test_options_that_do_not_belong_are_named(asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        jobs.compare(**{"out": tmp_path, **asked})


def test_too_many_demonstrations_and_left_out_ones_that_are_not_there_are_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"demonstrations: expected at most \d+, those of .* not judged on, found 24"):
        jobs.compare(own, out=tmp_path, **SMALL, demonstrations=(24,))
    with pytest.raises(ValueError, match="leave_out: expected episodes 0 to 23, found 24"):
        jobs.train("bc", own, out=tmp_path / "x", steps=1, leave_out=(24,))
    with pytest.raises(ValueError, match="leave_out: expected to leave an episode for training, found all 24"):
        jobs.train("bc", own, out=tmp_path / "x", steps=1, leave_out=tuple(range(24)))


def test_runs_of_one_name_are_told_apart_by_the_folders_above() -> None:
    assert list(named(["x/run", "y/run/model"])) == ["x-run", "y-run"]
    assert list(named(["x/one", "y/two"])) == ["one", "two"]


def test_runs_whose_last_folders_are_alike_are_told_apart_and_one_run_and_its_model_are_not_two() -> None:
    assert list(named(["/a/x/y/z/run", "/b/x/y/z/run"])) == ["a-x-y-z-run", "b-x-y-z-run"]
    with pytest.raises(ConfigError, match="runs: expected each run once, found x/run/model again"):
        named(["x/run", "y/run", "x/run/model"])
