"""The whole job on a small scale, and the accidents on its way."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.sets import LENGTHS, edit, put, write_numbers

from nextmove import data, jobs, nn, parts, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.decoders import Flow
from nextmove.evaluation import Entry, EpisodeResult, Latency
from nextmove.jobs.compare import Contestant
from nextmove.jobs.fit import once
from nextmove.models.policy.act import Act
from nextmove.models.policy.bc import BC
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.models.policy.meanflow_policy import MeanFlowPolicy
from nextmove.models.policy.policy import Policy, PolicySpec, Timing
from nextmove.sim import SimulatorError
from nextmove.training.checkpoint import CheckpointError

SMALL = FlowPolicy(decoder=Flow(trunk=nn.Mlp(width=32, depth=1, time_width=16)))


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.record("pusht", out=tmp_path_factory.mktemp("demos") / "set", episodes=4, workers=0)


@pytest.fixture(scope="module")
def run(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "flow"
    jobs.train("flow-policy", demos, out=out, steps=30, threads=1, recipe=SMALL, holdout=0.25)
    return out


def test_training_leaves_a_model_a_log_and_a_checkpoint(run: Path) -> None:
    facts = store.read_config(run / "model")["facts"]
    assert facts["steps"] == 30
    assert facts["episodes"] == 3
    lines = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert any("validation" in json.dumps(line) for line in lines)
    assert list((run / "checkpoints").glob("last-*"))


def test_training_twice_gives_the_same_weights(demos: Path, run: Path, tmp_path: Path) -> None:
    policy = jobs.train("flow-policy", demos, out=tmp_path, steps=30, threads=1, recipe=SMALL, holdout=0.25)
    for name, value in store.load(run / "model").state_dict().items():
        assert value.equal(policy.state_dict()[name]), name


def test_evaluation_on_the_simulator(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = jobs.evaluate(run, episodes=2, workers=0, video=1, steps=3, execute=4, out=tmp_path)
    told = capsys.readouterr().out
    assert told == f"{report['verdict']} Open {tmp_path / 'report.html'}\n"
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
    [({"solver": "ddim", "steps": 4}, "sampler: LatentDecoder"), ({"steps": 4}, "steps: LatentDecoder has no number")],
)
def test_a_sampler_where_there_is_none_to_choose(asked: dict[str, Any], named: str) -> None:
    policy = Act().build(PolicySpec({"observation.state": 3}, action=2, fps=10))
    with pytest.raises(ConfigError, match=named):
        parts.with_sampling(policy, **asked)


def test_a_few_step_policy_takes_a_number_of_steps() -> None:
    policy = MeanFlowPolicy().build(PolicySpec({"observation.state": 3}, action=2, fps=10))
    assert parts.with_sampling(policy, steps=4).sampling == {"steps": 4}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"episodes": 0}, "episodes: expected at least 1, found 0"),
        ({"simulator": "pushx"}, "pushx"),
        ({"execute": 99}, "n_action_steps: expected at most 16 of horizon 16, found 99"),
        ({"sampler": "foo"}, "sampler: expected one of"),
    ],
)
def test_what_does_not_fit_is_told_before_any_episode(
    run: Path, tmp_path: Path, asked: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextmove.evaluation.rollout", None)
    with pytest.raises((ValueError, SimulatorError), match=named):
        jobs.evaluate(run, out=tmp_path, **asked)


def test_a_policy_of_another_robot_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = store.create("bc", PolicySpec({"observation.state": 3}, action=2, fps=10), BC())
    store.save(policy, tmp_path / "model", facts={})
    monkeypatch.setattr("nextmove.evaluation.rollout", None)
    with pytest.raises(ValueError, match=r"observation.state: expected width 3, found \d+"):
        jobs.evaluate(tmp_path / "model", out=tmp_path)


def test_a_place_that_takes_nothing_is_told_first(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "out of the 1 episodes kept from training" in report["task"]


def test_offline_evaluation_elsewhere(run: Path, demos: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(demos, other)
    report = jobs.evaluate(run, data=other, out=tmp_path / "report")
    (entry,) = report["policies"].values()
    assert entry["offline"]["windows"] == len(data.open_dataset(demos))
    assert "out of all its episodes" in report["task"]
    info = json.loads((other / "meta" / "info.json").read_text())
    (other / "meta" / "info.json").write_text(json.dumps(info | {"fps": 20}))
    with pytest.raises(ConfigError, match="fps: expected 10, as the policy's, found 20"):
        jobs.evaluate(run, data=other, out=tmp_path / "report")


def test_compare_keeps_what_is_done(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's name `compare` is the function.
    module = importlib.import_module("nextmove.jobs.compare")
    recipes: dict[str, Any] = {"bc": BC(), "flow-policy": SMALL}
    calls: list[str] = []

    def train(system: str, *args: Any, **options: Any) -> Any:
        calls.append(system)
        return jobs.train(system, *args, **{**options, "recipe": recipes[system]})

    monkeypatch.setattr(module, "train", train)
    settings: dict[str, Any] = {"out": tmp_path, "demonstrations": (3,), "steps": 5, "episodes": 2, "video": 0}
    # A training that was killed before its first checkpoint starts anew.
    (tmp_path / "train" / "bc-n3-s0" / "checkpoints").mkdir(parents=True)
    jobs.compare(demos, entries=("bc",), **settings)
    report = jobs.compare(demos, entries=("bc", "flow-policy", "flow-policy@euler:2"), **settings)
    assert calls == ["bc", "flow-policy"]
    assert list(report["policies"]) == ["bc-n3-s0", "flow-policy-n3-s0", "flow-policy-n3-s0-euler2"]
    assert len(report["comparisons"]) == 3
    assert report["policies"]["flow-policy-n3-s0-euler2"]["facts"]["entry"] == "flow-policy@euler:2"
    assert "Success by number of demonstrations" not in (tmp_path / "report.html").read_text()
    jobs.compare(demos, entries=("bc",), **{**settings, "demonstrations": (2, 3)})
    assert "Success by number of demonstrations" in (tmp_path / "report.html").read_text()


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
    train = partial(jobs.train, "bc", demos, steps=6, threads=1, recipe=BC(), holdout=0)
    with pytest.raises(KeyboardInterrupt):
        once(run, train)
    assert store.load(run / "model").facts["steps"] == 3
    once(run, train)
    once(run, train)
    assert store.load(run / "model").facts["steps"] == 6
    assert next(steps) == 7


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons whose trainings and episodes take no time."""
    module = importlib.import_module("nextmove.jobs.compare")

    def judge(make: Any, *, name: str, seeds: range, **options: Any) -> Entry:
        still = np.zeros((9, 2), np.float32)
        played = [EpisodeResult(s, s % 3 > len(name) % 2, 0.5, 9, 10.0, still) for s in seeds]
        return Entry(name, played, Latency((1.0,), 1.0, 8, 1), facts={"minutes": 1.0})

    monkeypatch.setattr(module, "once", lambda *_: None)
    monkeypatch.setattr(module, "load_policy", lambda *_, **__: None)
    monkeypatch.setattr(module, "judge", judge)
    monkeypatch.setattr(module, "timed", lambda *_: Latency((7.0,), 7.0, 8, 1))
    monkeypatch.setattr(module, "machine", lambda: {"processor": "abacus"})


@pytest.mark.usefixtures("quick")
def test_a_comparison_reports_all_lines_judged_on_its_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"out": tmp_path, "episodes": 6}
    jobs.compare(Path("a set"), entries=("bc", "act"), steps=5, demonstrations=(3, 4), train_seeds=(1,), **settings)
    jobs.compare(Path("a set"), entries=("lstm-gmm",), out=tmp_path, episodes=4)
    report = jobs.compare(Path("a set"), entries=("flow-policy@euler:2",), **settings)
    names = ["flow-policy-n100-s0-euler2", "act-n3-s1", "act-n4-s1", "bc-n3-s1", "bc-n4-s1"]
    assert list(report["policies"]) == names
    assert len(report["comparisons"]) == 10
    assert report["notes"] == "Left out, judged on other episodes: lstm-gmm-n100-s0."
    assert set(report["commands"]) == {
        f"nextmove compare 'a set' --out {tmp_path} --entries flow-policy@euler:2 --episodes 6",
        f"nextmove compare 'a set' --out {tmp_path} --entries bc act --demonstrations 3 4 --train-seeds 1 --steps 5 "
        "--episodes 6",
    }
    told = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[0] for line in told[:5]] == report["best_first"]
    assert "4 of 6 held-out seeds solved (67%, 95 % interval 30% to 90%)" in told[0]
    assert told[5] == f"{report['notes']} Open {tmp_path / 'report.html'}"


@pytest.mark.usefixtures("quick")
def test_a_line_judged_on_other_episodes_is_refused_before_any_work(tmp_path: Path) -> None:
    jobs.compare(tmp_path, entries=("bc",), out=tmp_path, episodes=4)
    message = r"bc-n100-s0.json: expected 6 episodes from seed 100000 on pusht, found 4 from seed 100000 on pusht"
    with pytest.raises(ConfigError, match=message):
        jobs.compare(tmp_path, entries=("act", "bc"), out=tmp_path, episodes=6)
    assert [path.stem for path in (tmp_path / "judged").iterdir()] == ["bc-n100-s0"]


@pytest.mark.usefixtures("quick")
def test_a_judged_line_tells_when_and_where_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"out": tmp_path, "episodes": 4}
    jobs.compare(tmp_path, entries=("bc", "act"), **settings)
    paths = [tmp_path / "judged" / f"{name}-n100-s0.json" for name in ("bc", "act")]
    # A file of another day that names neither simulator nor machine.
    record = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps({k: v for k, v in record.items() if k not in ("simulator", "machine", "compare")}))
    module = importlib.import_module("nextmove.jobs.compare")
    monkeypatch.setattr(module, "machine", lambda: {"processor": "quill"})
    monkeypatch.setattr(module.time, "strftime", lambda *_: "2100-01-01")
    report = jobs.compare(tmp_path, entries=("act",), retime=True, **settings)
    facts = {name: policy["facts"] for name, policy in report["policies"].items()}
    assert (facts["act-n100-s0"]["date"], facts["act-n100-s0"]["machine"]) == ("2100-01-01", {"processor": "quill"})
    assert facts["bc-n100-s0"]["date"] == record["date"]
    assert "machine" not in facts["bc-n100-s0"]
    assert [report["policies"][f"{name}-n100-s0"]["ms_per_chunk"]["p50"] for name in ("bc", "act")] == [1.0, 7.0]
    act = json.loads(paths[1].read_text())
    assert act["line"] == {"system": "act", "sampler": None, "steps": 0, "episodes": 100, "seed": 0}
    assert "--retime" not in act["compare"]


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
        (other, [], "data.means.observation.state: the checkpoint was written with '"),
        (longer, [], "data.windows: the checkpoint was written with 36, this run has 37"),
        (own, ["--episodes", "3"], "data.episodes: the checkpoint was written with 4, this run has 3"),
        (own, ["--holdout", "0.5"], "data.episodes: the checkpoint was written with 4, this run has 2"),
    ):
        assert train(source, "--steps", "2", "--resume", *options) == 1
        assert message in capsys.readouterr().err
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
    once(tmp_path, train)
    (tmp_path / "model" / "config.json").unlink()
    once(tmp_path, train)
    assert store.load(tmp_path / "model").facts["steps"] == 2


@pytest.mark.parametrize(("demonstrations", "dropout"), [(25, 0.1), (999, 0.0)])
def test_the_demo_drops_nothing_where_demonstrations_are_plenty(
    demonstrations: int, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReachedError(Exception):
        pass

    found: list[Any] = []

    def train(system: str, path: Path, *, recipe: Any, **options: Any) -> None:
        found.append(recipe)
        raise ReachedError

    module = importlib.import_module("nextmove.jobs.demo")
    monkeypatch.setattr(module, "record", lambda *_, out, **__: out)
    monkeypatch.setattr(module, "train", train)
    with pytest.raises(ReachedError):
        jobs.demo(out=tmp_path, demonstrations=demonstrations)
    assert found[0].decoder.trunk.dropout == dropout


def test_contestants_are_read_from_text() -> None:
    line = Contestant.parse("diffusion-policy@ddim:10", 100, 2)
    assert (line.run, line.name) == ("diffusion-policy-n100-s2", "diffusion-policy-n100-s2-ddim10")
    with pytest.raises(ValueError, match="SYSTEM@SAMPLER:STEPS"):
        Contestant.parse("flow-policy@euler", 100, 0)
    few = Contestant.parse("meanflow-policy@2", 100, 0)
    assert (few.name, few.entry) == ("meanflow-policy-n100-s0-steps2", "meanflow-policy@2")


@pytest.mark.parametrize("text", ["act@ddim:10", "act@4", "meanflow-policy@euler:4", "flow-policy@eulr:4"])
def test_a_contestant_that_cannot_be_sampled_so_is_refused_before_any_training(text: str) -> None:
    with pytest.raises(ConfigError, match=r"steps|sampler"):
        Contestant.parse(text, 100, 0)


def test_inspect_tells_data_and_models(demos: Path, run: Path) -> None:
    assert "4 episodes" in jobs.inspect(demos)
    assert "Flow Policy" in jobs.inspect(run)
    with pytest.raises(FileNotFoundError, match="neither"):
        jobs.inspect(run.parent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "exactly one of steps and minutes"),
        (["--minutes", "1", "--steps", "1"], "exactly one of steps and minutes"),
        (["--steps", "1", "--episodes", "9"], "episodes: expected 0 to 4, found 9"),
    ],
)
def test_budgets_that_make_no_sense(
    demos: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "bc", str(demos), "--out", str(tmp_path / "x"), *options]) == 1
    assert message in capsys.readouterr().err


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
    jobs.train("bc", root, out=tmp_path / "run", steps=1, threads=1)
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
