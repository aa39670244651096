"""Offline judging of a user's own data: which windows, beside what, and what is shown of it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nextmove import data, jobs
from nextmove.config import ConfigError
from nextmove.evaluation.baselines import HOLD, REPEAT, ZERO
from nextmove.jobs.offline import offline
from nextmove.models.policy import ActionSpace, Policy, Timing
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


@pytest.mark.parametrize("space", ["absolute", "relative", "deltas"])
def test_errors_are_in_the_robots_units_in_every_space(space: Any, arm: Path, tmp_path: Path) -> None:
    """A policy whose answers are what its codec makes of the demonstrated plan, plus one spread, errs by one spread."""
    recipe = replace(BC(), actions=ActionSpace(space=space), timing=Timing(n_obs_steps=1, horizon=4))
    policy = jobs.train("bc", arm, out=tmp_path / "run", steps=1, threads=1, recipe=recipe, holdout=0.34)
    told: dict[str, Any] = {}
    encode = policy.codec.encode

    def plan(ctx: Any, **options: Any) -> Any:
        return encode(told["action"], told) + 0.25

    def act(obs: Any, *, rng: Any, known: Any = None) -> Any:
        # The windows' own actions, found by what is observed.
        told.update(obs, action=actions[obs["observation.state"][:, -1, 0].tolist()])
        return Policy.act(policy, obs, rng=rng)

    dataset = data.open_dataset(arm).select(policy.facts["held_episodes"])
    whole = data.Windows(dataset, obs_offsets=[0], action_offsets=range(4)).batch(np.arange(len(dataset)))
    actions = Lookup(whole["observation.state"][:, 0, 0].tolist(), whole["action"])
    policy.decoder.sample, policy.act = plan, act  # type: ignore[method-assign,assignment]
    found = offline(policy, arm, windows=0)[0]
    scale = policy.codec.scale.back_scale.reshape(4, 3).double()  # type: ignore[union-attr]
    expected = 0.25 * (scale.cumsum(0) if space == "deltas" else scale)
    np.testing.assert_allclose(found.mae_by_dim[:2], expected.mean(0)[:2], rtol=0.05)


class Lookup:
    """Rows of a tensor by keys."""

    def __init__(self, keys: list[float], rows: Any) -> None:
        self.place, self.rows = {key: i for i, key in enumerate(keys)}, rows

    def __getitem__(self, keys: list[float]) -> Any:
        return self.rows[[self.place[key] for key in keys]]


def test_the_page_shows_what_the_camera_saw(tmp_path: Path) -> None:
    root, rng = tmp_path / "data", np.random.default_rng(0)
    vector = {"dtype": "float32", "shape": [2], "names": ["pan", "lift"]}
    image = {"dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"]}
    writer = data.DatasetWriter(root, {"observation.state": vector, "observation.top": image, "action": vector}, 10)
    for length in (20, 12):
        state = np.cumsum(rng.normal(size=(length, 2)), 0).astype(np.float32)
        frames = np.repeat(np.linspace(0, 240, length).astype(np.uint8), 32 * 48 * 3).reshape(length, 32, 48, 3)
        writer.add_episode({"observation.state": state, "observation.top": frames, "action": state + 0.1}, "x")
    writer.finalize()
    policy = jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1, recipe=BC(), holdout=0.5)
    jobs.evaluate(tmp_path / "run", data=root, windows=4, out=tmp_path / "page")
    (episode,) = policy.facts["held_episodes"]
    (seen,) = offline(policy, root, windows=1)[0].films
    assert (seen.episode, seen.camera, len(seen.steps)) == (episode, "observation.top", (20, 12)[episode])
    sheet = np.asarray(Image.open(io.BytesIO(seen.sheet)).convert("L"), np.float64)
    first = [sheet[i // 8 * 32 :, i % 8 * 48 :][:32, :48].mean() for i in range(len(seen.steps))]
    np.testing.assert_allclose(first, np.linspace(0, 240, len(first)), atol=12)
    page = (tmp_path / "page" / "report.html").read_text()
    assert seen.data in page
    for path in root.rglob("*.mp4"):
        path.unlink()
    # A policy that reads no camera is judged without it.
    assert offline(policy, root, windows=1)[0].films == ()
