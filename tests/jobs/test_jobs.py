"""The whole job on a small scale, and the accidents on its way."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.jobs.conftest import SMALL

from nextmove import data, jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.jobs.fit import HELD, held_batches, train_or_resume
from nextmove.jobs.tasks.policy import kept_back, split_episodes
from nextmove.models.model import with_sampling
from nextmove.models.policy.act import Act
from nextmove.models.policy.bc import BC
from nextmove.models.policy.meanflow_policy import MeanFlowPolicy
from nextmove.models.policy.policy import Policy, PolicySpec, Timing
from nextmove.sim import SimulatorError
from nextmove.systems import find
from nextmove.training.checkpoint import CheckpointError


def test_training_leaves_a_model_a_log_and_a_checkpoint(run: Path) -> None:
    facts = store.read_config(run / "model")["facts"]
    assert facts["steps"] == 30
    assert facts["episodes"] == 3
    lines = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert any("validation" in json.dumps(line) for line in lines)
    assert list((run / "checkpoints").glob("last-*"))


def test_training_twice_gives_the_same_weights(demos: Path, run: Path, tmp_path: Path) -> None:
    policy = jobs.train("flow-policy", demos, out=tmp_path, steps=30, threads=1, recipe=SMALL, holdout=0.25, bf16="off")
    for name, value in store.load(run / "model").state_dict().items():
        assert value.equal(policy.state_dict()[name]), name


def test_evaluation_on_the_simulator(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = jobs.evaluate(run, episodes=2, workers=0, video=1, steps=3, execute=4, out=tmp_path)
    printed = capsys.readouterr().out
    assert printed == f"{report['verdict']} Open {tmp_path / 'report.html'}\n"
    wanted = f"nextmove evaluate {run} --episodes 2 --seed 100000 --workers 0 --steps 3 --execute 4 --video 1"
    assert report["commands"] == [f"{wanted} --out {tmp_path}"]
    (entry,) = report["policies"].values()
    assert set(entry["success"]) >= {"successes", "episodes", "rate", "low", "high"}
    assert 0 <= entry["mean_max_reward"] <= 1
    assert set(entry["ms_per_chunk"]) >= {"p50", "p99"}
    page = (tmp_path / "report.html").read_text()
    assert "data:video/mp4" in page
    assert json.loads((tmp_path / "report.json").read_text())["policies"].keys() == report["policies"].keys()


def test_another_sampler_without_new_training(run: Path) -> None:
    from nextmove.jobs.evaluate import load_policy

    policy = load_policy(run, sampler="heun", steps=3, execute=2)
    assert policy.decoder.sampler.steps == 3
    assert policy.n_action_steps == 2
    with pytest.raises(ValueError, match="did you mean 'euler'"):
        load_policy(run, sampler="eulr")


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"solver": "ddim", "steps": 4}, "sampler: Regression"), ({"steps": 4}, "steps: Regression has no number")],
)
def test_a_sampler_where_there_is_none_to_choose(asked: dict[str, Any], named: str) -> None:
    policy = Act().build(PolicySpec.of_states({"observation.state": 3}, 2, 10))
    with pytest.raises(ConfigError, match=named):
        with_sampling(policy, **asked)


def test_a_few_step_policy_takes_a_number_of_steps() -> None:
    policy = MeanFlowPolicy().build(PolicySpec.of_states({"observation.state": 3}, 2, 10))
    assert with_sampling(policy, steps=4).decoder.config.steps == 4


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"episodes": 0}, "episodes: expected at least 1, found 0"),
        ({"task": "pushx"}, "pushx"),
        ({"execute": 99}, "n_action_steps: expected at most 16 of horizon 16, found 99"),
        ({"sampler": "foo"}, "sampler: expected one of"),
        ({"data": "demos", "workers": 9}, "workers: for a simulator, found --data; leave out --workers"),
        ({"runtime": "openvin"}, "runtime: expected torch or openvino, found 'openvin', did you mean 'openvino'"),
        ({"runtime": "openvino", "batched": True}, "batched: openvino computes a plan at a time"),
        ({"precision": "int8"}, "precision: torch computes in float32, found 'int8'; --runtime openvino"),
        ({"least_weights": 0}, "least_weights: expected at least 1, found 0"),
        (
            {"runtime": "openvino", "precision": "int8", "least_weights": 9},
            "least_weights: for --precision w8a8; leave out --least-weights",
        ),
        ({"runtime": "openvino", "precision": "int4"}, "precision: expected float32, bf16, int8, w8a8; found 'int4'"),
    ],
)
def test_what_does_not_fit_is_named_before_any_episode(
    run: Path, tmp_path: Path, asked: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextmove.evaluation.rollout", None)
    with pytest.raises((ValueError, SimulatorError), match=named):
        jobs.evaluate(run, out=tmp_path, **asked)


def test_a_policy_of_another_robot_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = store.create("bc", PolicySpec.of_states({"observation.state": 3}, 2, 10), BC())
    store.save(policy, tmp_path / "model", facts={})
    monkeypatch.setattr("nextmove.evaluation.rollout", None)
    with pytest.raises(ValueError, match=r"observation.state: expected width 3, found \d+"):
        jobs.evaluate(tmp_path / "model", out=tmp_path)


def test_a_place_that_takes_nothing_is_named_first(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("nextmove.evaluation.rollout", None)
    with pytest.raises(ConfigError, match=r"out: expected a folder that can be written to, found .*file/x"):
        jobs.evaluate(run, out=tmp_path / "file" / "x")


def test_offline_evaluation_on_what_was_kept_from_training(run: Path, demos: Path, tmp_path: Path) -> None:
    report = jobs.evaluate(run, data=demos, out=tmp_path)
    (entry,) = report["policies"].values()
    assert entry["offline"]["mae"] > 0
    assert len(entry["offline"]["mae_by_step"]) == 16
    assert entry["hz"]["per_replan"] > 0
    assert entry["parameters"] > 0
    assert entry["curve"]["step"]
    assert report["commands"] == [f"nextmove evaluate {run} --data {demos} --out {tmp_path}"]
    held = store.read_config(run / "model")["facts"]["held_episodes"]
    assert entry["offline"]["windows"] == len(data.open_dataset(demos).select(held))
    assert "out of the 1 episode kept from training; left out: 3 episodes that the policy" in report["task"]


@pytest.mark.usefixtures("unrendered")
def test_offline_evaluation_elsewhere(run: Path, demos: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(demos, other)
    report = jobs.evaluate(run, data=other, out=tmp_path / "report")
    (entry,) = report["policies"].values()
    held = store.read_config(run / "model")["facts"]["held_episodes"]
    assert entry["offline"]["windows"] == len(data.open_dataset(demos).select(held))
    assert "out of the 1 episode kept from training" in report["task"]
    info = json.loads((other / "meta" / "info.json").read_text())
    (other / "meta" / "info.json").write_text(json.dumps(info | {"fps": 20}))
    with pytest.raises(ConfigError, match="fps: expected 10, as the policy's, found 20"):
        jobs.evaluate(run, data=other, out=tmp_path / "report")


def test_a_training_that_was_stopped_is_resumed_and_not_judged_as_it_stands(
    demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = itertools.count(1)
    loss = Policy.loss

    def stopped_once(self: Policy, *args: Any, **options: Any) -> Any:
        if next(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(self, *args, **options)

    monkeypatch.setattr(Policy, "loss", stopped_once)
    run = tmp_path / "run"
    train = partial(jobs.train, "bc", demos, steps=6, threads=1, bf16="off", predict=False, recipe=BC(), holdout=0)
    with pytest.raises(KeyboardInterrupt):
        train_or_resume(run, train)
    assert store.load(run / "model").facts["steps"] == 3
    train_or_resume(run, train)
    train_or_resume(run, train)
    assert store.load(run / "model").facts["steps"] == 6
    assert next(steps) == 7


def random_set(root: Path, seed: int, lengths: tuple[int, ...] = (9, 9, 9, 9)) -> Path:
    rng, vector = np.random.default_rng(seed), {"dtype": "float32", "shape": [2], "names": None}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    for length in lengths:
        columns = {n: rng.normal(size=(length, 2)).astype(np.float32) for n in ("observation.state", "action")}
        writer.add_episode(columns, "x")
    writer.finalize()
    return root


def test_a_run_is_resumed_on_its_own_data_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = random_set(tmp_path / "own", 0), random_set(tmp_path / "other", 1)
    longer = random_set(tmp_path / "longer", 0, (9, 9, 9, 10))

    def train(source: Path, *options: str) -> int:
        return main(["train", "bc", str(source), "--out", str(tmp_path / "run"), "--threads", "1", *options])

    assert train(own, "--steps", "1") == 0
    for source, options, message in (
        (other, [], "data.content.observation.state: the checkpoint was written with '"),
        (longer, [], "data.windows: the checkpoint was written with 27, this run has 28"),
        (own, ["--episodes", "3"], "data.episodes: the checkpoint was written with 3, this run has 2"),
        (own, ["--holdout", "0.5"], "data.episodes: the checkpoint was written with 3, this run has 2"),
    ):
        assert train(source, "--steps", "2", "--resume", *options) == 1
        assert message in capsys.readouterr().err
    # Nor is a finished training on other data taken for one on these.
    assert train(other, "--steps", "1", "--resume") == 1
    assert "data.content.observation.state" in capsys.readouterr().err
    # Folders may be moved.
    assert train(own.rename(tmp_path / "moved"), "--steps", "2", "--resume") == 0


@pytest.mark.parametrize("budget", [{"steps": 6}, {"steps": 2}, {"minutes": 1e-6}])
def test_a_finished_run_whose_budget_is_not_raised_is_left_as_it_is(
    demos: Path, tmp_path: Path, budget: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    train = partial(jobs.train, "bc", demos, out=tmp_path / "run", threads=1, holdout=0)
    trained = train(steps=6).state_dict()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    policy = train(resume=True, **budget)
    assert "already finished at step 6; more --steps" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == files
    assert all(value.equal(trained[name]) for name, value in policy.state_dict().items())
    assert policy.facts["steps"] == 6


def test_a_finished_run_goes_on_with_a_larger_budget_but_not_as_another(demos: Path, tmp_path: Path) -> None:
    train = partial(jobs.train, "bc", demos, out=tmp_path, threads=1, holdout=0)
    train(steps=2)
    assert train(steps=4, resume=True).facts["steps"] == 4
    with pytest.raises(CheckpointError, match="seed: the checkpoint was written with 0, this run has 1"):
        train(steps=4, seed=1, resume=True)
    with pytest.raises(CheckpointError, match="card"):
        train(steps=4, recipe=BC(timing=Timing(horizon=8)), resume=True)


def test_a_run_stopped_before_its_model_was_whole_is_resumed(demos: Path, tmp_path: Path) -> None:
    train = partial(jobs.train, "bc", demos, steps=2, threads=1, holdout=0)
    train_or_resume(tmp_path, train)
    (tmp_path / "model" / "config.json").unlink()
    train_or_resume(tmp_path, train)
    assert store.load(tmp_path / "model").facts["steps"] == 2


@pytest.mark.parametrize(
    ("count", "holdout", "held", "said"),
    [
        (8, 0.05, 1, "1 of 8 episodes are kept for it (5)"),
        (2, 0.05, 1, "1 of 2 episodes are kept for it"),
        (30, 0.05, 2, "2 of 30 episodes are kept for it"),
        (1, 0.05, 0, "none, one episode cannot be divided"),
        (8, 0.0, 0, "none, holdout is 0"),
    ],
)
def test_few_episodes_keep_one_for_the_validation_loss_and_say_so(
    tmp_path: Path, count: int, holdout: float, held: int, said: str
) -> None:
    dataset = data.open_dataset(random_set(tmp_path / "set", 0, (3,) * count))
    train, kept = split_episodes(dataset, 0, holdout, 0)
    assert (len(kept), sorted([*train, *kept])) == (held, list(range(count)))
    assert said in kept_back(kept, len(train), holdout)


def test_a_seed_always_splits_alike() -> None:
    """Runs of before are gone on with, so what they keep back stays what it was."""
    dataset: Any = SimpleNamespace(num_episodes=10, episode_from=np.arange(10), episode_to=np.arange(1, 11))
    for arguments, kept in [((0, 0.25, 0), [2, 5]), ((8, 0.25, 7, (3,)), [6, 8])]:
        train, found = split_episodes(dataset, *arguments)
        assert found.tolist() == kept
        assert not {*train} & {*found}
    assert len({tuple(split_episodes(dataset, 0, 0.1, seed)[1].tolist()) for seed in range(60)}) == 10


def test_training_says_what_is_kept_for_the_validation_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.train("bc", random_set(tmp_path / "set", 0, (5,) * 8), out=tmp_path / "run", steps=1, threads=1)
    assert "validation loss: 1 of 8 episodes are kept for it (" in capsys.readouterr().out
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    assert "validation" in kinds


def test_the_windows_kept_for_the_validation_loss_are_counted_in_numbers(demos: Path) -> None:
    dataset = data.open_dataset(demos)
    short, long = (
        data.Windows(dataset, ["observation.state"], (0,), tuple(range(horizon))) for horizon in (16, 100_000)
    )
    assert sum(len(b["action"]) for b in held_batches(short, 64, 100)) == 100
    assert 1 <= sum(len(b["action"]) for b in held_batches(long, 64, 100)) <= HELD / 200_000


def test_the_flow_policy_drops_nothing_unless_asked() -> None:
    assert find("flow-policy").load()().decoder.trunk.dropout == 0


def test_inspect_tells_data_and_models(demos: Path, run: Path) -> None:
    assert "4 episodes" in jobs.inspect(demos)
    assert "Flow Policy" in jobs.inspect(run)
    with pytest.raises(FileNotFoundError, match=r"expected a data set .* or a model .*is a folder of flow"):
        jobs.inspect(run.parent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "exactly one of steps and minutes"),
        (["--minutes", "1", "--steps", "1"], "exactly one of steps and minutes"),
        (["--steps", "1", "--episodes", "9"], "episodes: expected 0 to 4, found 9"),
        (["--steps", "1", "--holdout", "-0.5"], "holdout: expected 0 to less than 1, found -0.5"),
        (["--steps", "1", "--holdout", "nan"], "holdout: expected 0 to less than 1, found nan"),
        (["--steps", "1", "--seed", "-1"], "seed: expected no negative number, found -1"),
        (["--steps", "1", "--workers", "-1"], "workers: expected at least 0, found -1"),
        (["--steps", "1", "--device", "tpu"], "device: expected cpu"),
        (["--steps", "1", "--device", "mps"], "device: expected cpu"),
    ],
)
def test_budgets_that_make_no_sense(
    demos: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "bc", str(demos), "--out", str(tmp_path / "x"), *options]) == 1
    assert message in capsys.readouterr().err
