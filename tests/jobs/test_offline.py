"""Offline judging of a user's own data: which windows, beside what, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextmove import data, jobs
from nextmove.config import ConfigError
from nextmove.evaluation.baselines import HOLD, REPEAT, ZERO
from nextmove.jobs.offline import offline
from nextmove.models.policy import Policy
from nextmove.models.policy.bc import BC

LENGTHS = (30, 25, 20)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm whose state follows its slow commands a step later; the last joint never moves."""
    root, rng = tmp_path_factory.mktemp("arm") / "data", np.random.default_rng(0)
    vector = {"dtype": "float32", "shape": [3], "names": ["pan", "lift", "fixed"]}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    for length in LENGTHS:
        action = np.cumsum(rng.normal(size=(length, 3)), 0) * [1, 100, 0] + [0, 0, 7]
        state = np.concatenate([action[:1], action[:-1]])
        writer.add_episode(
            {n: x.astype(np.float32) for n, x in (("action", action), ("observation.state", state))}, "x"
        )
    writer.finalize()
    return root


@pytest.fixture(scope="module")
def policy(arm: Path, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return jobs.train("bc", arm, out=tmp_path_factory.mktemp("run"), steps=3, threads=1, recipe=BC(), holdout=0.34)


def test_windows_are_evenly_out_of_all_and_given_in_batches(arm: Path, policy: Policy) -> None:
    held = policy.facts["held_episodes"]
    frames = sum(LENGTHS[i] for i in held)
    whole, few = offline(policy, arm, windows=0)[0], offline(policy, arm, windows=7)[0]
    assert (whole.windows, few.windows) == (frames, 7)
    assert offline(policy, arm)[0].mae == whole.mae
    assert whole.beside is not None
    assert whole.beside.episodes.tolist() == held
    assert whole.beside.names == ("pan", "lift", "fixed")
    with pytest.raises(ConfigError, match="windows: expected at least 0, found -1"):
        offline(policy, arm, windows=-1)


def test_baselines_are_measured_on_the_same_windows(arm: Path, policy: Policy) -> None:
    beside = offline(policy, arm, windows=0)[0].beside
    assert beside is not None
    (episode,) = policy.facts["held_episodes"]
    dataset = data.open_dataset(arm).select([episode])
    action = dataset.column("action")[dataset.rows].astype(np.float64)
    # Here the state is the last action, also at the start.
    miss = np.abs(np.diff(np.concatenate([action[:1], action]), axis=0)).mean(0)
    for name in (HOLD, REPEAT):
        np.testing.assert_allclose(beside.dim_errors(name), miss, rtol=1e-4, atol=1e-5)
        assert beside.mean(name) == pytest.approx((miss[:2] / action.std(0)[:2]).mean(), rel=1e-4)
    assert beside.spread[2] == 0


def test_episodes_are_drawn_from_their_first_step(arm: Path, policy: Policy) -> None:
    (drawn,) = offline(policy, arm, windows=1)[0].trajectories
    (episode,) = policy.facts["held_episodes"]
    assert drawn.episode == episode
    assert drawn.demo.shape == (LENGTHS[episode], 3)
    assert drawn.starts.tolist() == list(range(LENGTHS[episode]))
    assert drawn.plans.shape == (LENGTHS[episode], 1, 3)


def test_a_state_of_other_joints_is_not_held(arm: Path, tmp_path: Path) -> None:
    root, vector = tmp_path / "data", {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector | {"names": ["vx", "vy"]}}, 10)
    numbers = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    writer.add_episode({"observation.state": numbers, "action": numbers}, "x")
    writer.finalize()
    policy = jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, recipe=BC(), holdout=0)
    beside = offline(policy, root)[0].beside
    assert beside is not None
    assert HOLD not in beside.errors
    assert beside.mean(ZERO) > 0
    # The first step of an episode has no action before it and nothing to stand for it: it counts for nobody.
    assert beside.count.sum() == 8


@pytest.mark.parametrize(("rate", "unit", "baseline"), [(1, 1, HOLD), (10, 1, ZERO), (1, 1000, ZERO)])
def test_velocities_and_other_units_named_as_the_joints_are_not_held_where_the_joints_are(
    tmp_path: Path, rate: int, unit: int, baseline: str
) -> None:
    root, vector = tmp_path / "data", {"dtype": "float32", "shape": [3], "names": ["pan", "lift", "grip"]}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    path = np.cumsum(np.random.default_rng(0).normal(size=(40, 3)) * 0.1, 0).astype(np.float32) + 5
    action = path[1:] if rate == 1 else np.diff(path, axis=0) * rate
    state = path[:-1] * np.array([1, 1, unit], np.float32)
    writer.add_episode({"observation.state": state, "action": action}, "x")
    writer.finalize()
    policy = jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, recipe=BC(), holdout=0)
    beside = offline(policy, root)[0].beside
    assert beside is not None
    assert beside.baselines[0] == baseline
    assert not {HOLD, ZERO} - {baseline} & set(beside.errors)


def test_joints_that_cannot_be_compared_by_name_are_said(
    arm: Path, policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(arm, tmp_path / "set")
    info = tmp_path / "set" / "meta" / "info.json"
    info.write_text(info.read_text().replace('"pan"', '"j0"').replace('"lift"', '"j1"').replace('"fixed"', '"j2"'))
    offline(policy, tmp_path / "set")
    assert "Joints could not be compared by name: observation.state (" in capsys.readouterr().out


def test_the_report_says_worse_than_doing_nothing(
    arm: Path, policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nextmove import store

    store.save(policy, tmp_path / "model", facts=policy.facts)
    report = jobs.evaluate(tmp_path, data=arm, windows=9)
    printed = capsys.readouterr().out
    assert "Worse than doing nothing: error " in report["verdict"]
    assert report["verdict"] in printed
    assert "pan  " in printed
    assert report["commands"] == [f"nextmove evaluate {tmp_path} --data {arm} --windows 9"]
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "repeating the last action" in page
    assert "never moves" in page
    with pytest.raises(ConfigError, match="windows: for offline judging, which needs --data; leave out --windows"):
        jobs.evaluate(tmp_path, windows=9)
