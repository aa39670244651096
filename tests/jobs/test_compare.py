"""A comparison: what it keeps, what it reports, and what it refuses before any work."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.data.sets import edit, put
from tests.jobs.conftest import SMALL

from nextmove import data, jobs, store
from nextmove.config import ConfigError
from nextmove.contracts import Feature
from nextmove.decoders import Diffusion
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.direct import RegressionDecoder
from nextmove.evaluation import Entry, EpisodeResult, Latency
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.lines import ComparedRun
from nextmove.models.policy.bc import BC
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.models.policy.openvla_oft import OpenVlaOft
from nextmove.sim import SimulatorError


@pytest.mark.usefixtures("short", "unrendered")
def test_compare_keeps_what_is_done(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's name `compare` is the function.
    module = importlib.import_module("nextmove.jobs.trainings")
    recipes: dict[str, Any] = {"bc": BC(), "flow-policy": SMALL}
    calls: list[str] = []

    def train(system: str, *args: Any, **options: Any) -> Any:
        calls.append(system)
        return jobs.train(system, *args, **{**options, "recipe": recipes[system]})

    monkeypatch.setattr(module, "train", train)
    settings: dict[str, Any] = {"out": tmp_path, "demonstrations": (3,), "steps": 5, "episodes": 2, "video": 0}
    settings |= {"workers": 0}
    # A training that was killed before its first checkpoint starts anew.
    (tmp_path / "train" / "bc-n3-s0" / "checkpoints").mkdir(parents=True)
    jobs.compare(demos, entries=("bc",), **settings)
    report = jobs.compare(demos, entries=("bc", "flow-policy", "flow-policy@euler:2"), **settings)
    assert calls == ["bc", "flow-policy"]
    assert list(report["policies"]) == ["bc-n3-s0", "flow-policy-n3-s0", "flow-policy-n3-s0-euler2"]
    assert len(report["comparisons"]) == 3
    assert report["policies"]["flow-policy-n3-s0-euler2"]["facts"]["entry"] == "flow-policy@euler:2"
    assert "Success by number of demonstrations" not in (tmp_path / "report.html").read_text()
    jobs.compare(demos, entries=("bc",), **{**settings, "demonstrations": (2, 3), "workers": 1})
    assert "Success by number of demonstrations" in (tmp_path / "report.html").read_text()


def test_lines_are_read_from_text() -> None:
    line = ComparedRun.parse("diffusion-policy@ddim:10", 100, 2)
    assert (line.run, line.name) == ("diffusion-policy-n100-s2", "diffusion-policy-n100-s2-ddim10")
    with pytest.raises(ValueError, match="SYSTEM@SAMPLER:STEPS"):
        ComparedRun.parse("flow-policy@euler", 100, 0)
    few = ComparedRun.parse("meanflow-policy@2", 100, 0)
    assert (few.name, few.entry) == ("meanflow-policy-n100-s0-steps2", "meanflow-policy@2")


def test_a_line_may_name_another_head() -> None:
    line = ComparedRun.parse("flow-policy+diffusion@ddim:10", 100, 2)
    assert line == ComparedRun("flow-policy", "ddim", 10, 100, 2, "diffusion")
    assert (line.run, line.entry) == ("flow-policy+diffusion-n100-s2", "flow-policy+diffusion@ddim:10")
    shown = {"observation.state": Feature("state", (2,))}
    assert isinstance(line.recipe(shown).decoder, Diffusion)
    assert ComparedRun.parse("flow-policy@euler:4", 100, 2).recipe(shown) is None
    flow = ComparedRun.parse("openvla-oft+flow@euler:10", 5, 0)
    assert flow.name == "openvla-oft+flow-n5-s0-euler10"
    camera = {**shown, "observation.images.top": Feature("image", (96, 96, 3))}
    assert flow.recipe(camera) == OpenVlaOft().seeing(camera).headed("flow")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flow-policy+", r"expected SYSTEM, SYSTEM\+DECODER, .* found 'flow-policy\+'"),
        ("flow-policy+difusion", "expected one of flow, .*; found 'difusion', did you mean 'diffusion'"),
        ("flow-policy+l1", "expected one of flow, diffusion, .* mixture; found 'l1'"),
        ("openvla-oft+l2", "expected one of .* mixture, l1; found 'l2'"),
        ("act+flow", "Act wraps its network in more than one rule"),
    ],
)
def test_a_head_that_there_is_not_is_named_with_those_there_are(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^entries: .*{message}"):
        ComparedRun.parse(text, 100, 0)


def test_a_line_may_name_other_values_of_fields() -> None:
    line = ComparedRun.parse("diffusion-policy,decoder.target=x0,optim.lr=3e-4@ddim:10", 100, 0)
    assert line.entry == "diffusion-policy,decoder.target=x0,optim.lr=3e-4@ddim:10"
    assert line.run == "diffusion-policy,decoder.target=x0,optim.lr=3e-4-n100-s0"
    recipe, own = line.recipe({"observation.state": Feature("state", (2,))}), DiffusionPolicy()
    changed = replace(own, decoder=replace(own.decoder, target="x0"), optim=replace(own.optim, lr=3e-4))
    assert recipe == changed
    # A list's commas part no fields, and a rule that is exchanged has fields too.
    wide = ComparedRun.parse("diffusion-policy,decoder.trunk.widths=[64,128],timing.n-action-steps=4", 5, 0).recipe({})
    assert (wide.decoder.trunk.widths, wide.timing.n_action_steps) == ((64, 128), 4)
    assert ComparedRun.parse("bc+diffusion,decoder.target=v", 5, 0).recipe({}).decoder.target == "v"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("act,optim.lrr=1", "Act.optim: expected one of lr, betas, .*; found 'lrr', did you mean 'lr'"),
        ("act,optim.lr=x", "Act.optim.lr: expected float, found 'x'"),
        ("act,optim.lr=1,optim.lr=2", "Act.optim.lr: expected once, found twice"),
        ("act,optim.lr.x=2", "Act.optim.lr: .* has no field 'x'"),
        ("bc,encoder.parts.7.x=2", "BC.encoder.parts: expected one of 0; found '7'"),
        ("act,optim.lr=", "expected SYSTEM, .* found 'act,optim.lr='"),
        (
            "bc,timing.n-action-steps=4",
            "n-action-steps=4: timing.n_action_steps: expected at most 1 of horizon",
        ),
        ("act,lr", "expected SYSTEM, .* found 'act,lr'"),
        ("act,optim.lr=a/b", "expected SYSTEM, .* found 'act,optim.lr=a/b'"),
        ("act,optim.lr=1#2", "expected SYSTEM, .* none of / .*; found 'act,optim.lr=1#2'"),
        ("bc,decoder.target=x0", "BC.decoder: expected one of .*; found 'target'"),
        ("bc,decoder.trunk=mlp", "BC.decoder.trunk: expected an object whose 'kind' names a part, found 'mlp'"),
        ("bc,optim.lr=NaN", "optim.lr: expected a finite number of at least 0, found nan"),
    ],
)
def test_a_field_that_there_is_not_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^entries: .*{message}"):
        ComparedRun.parse(text, 100, 0)


@pytest.mark.usefixtures("short", "unrendered")
def test_a_system_is_compared_with_another_value_of_a_field(demos: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"demonstrations": (2,), "steps": 2, "episodes": 1, "video": 1, "workers": 0}
    entries = ("bc", "bc,optim.batch=3,timing.horizon=2")
    report = jobs.compare(demos, out=tmp_path, entries=entries, **settings)
    other = "bc,optim.batch=3,timing.horizon=2-n2-s0"
    assert sorted(report["policies"]) == sorted(("bc-n2-s0", other))
    assert report["policies"][other]["facts"]["entry"] == entries[1]
    assert store.load(tmp_path / "train" / other / "model").timing.horizon == 2
    # A judged line is known by its fields.
    assert (
        jobs.compare(demos, out=tmp_path, entries=entries, **settings)["policies"].keys() == report["policies"].keys()
    )


@pytest.mark.usefixtures("short", "unrendered")
def test_two_heads_of_one_system_are_compared(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ("bc", "bc+diffusion@ddim:2", "bc+diffusion@ddim:1")
    settings: dict[str, Any] = {"demonstrations": (2,), "steps": 2, "episodes": 1, "video": 0, "workers": 0}
    report = jobs.compare(demos, out=tmp_path, entries=entries, **settings)
    names = ["bc+diffusion-n2-s0-ddim1", "bc+diffusion-n2-s0-ddim2", "bc-n2-s0"]
    assert sorted(report["policies"]) == names
    assert [report["policies"][name]["facts"]["entry"] for name in reversed(names)] == list(entries)
    kinds = {run.name: type(store.load(run / "model").decoder) for run in (tmp_path / "train").iterdir()}
    assert kinds == {"bc-n2-s0": RegressionDecoder, "bc+diffusion-n2-s0": DiffusionDecoder}
    # The same command trains and judges nothing again.
    monkeypatch.setattr(importlib.import_module("nextmove.jobs.trainings"), "train", pytest.fail)
    monkeypatch.setattr(importlib.import_module("nextmove.jobs.compare_simulated"), "judge", pytest.fail)
    assert sorted(jobs.compare(demos, out=tmp_path, entries=entries, **settings)["policies"]) == names


def test_a_head_that_does_not_fit_a_network_is_named_before_any_training(demos: Path, tmp_path: Path) -> None:
    message = r"entries: lstm-gmm\+meanflow: .*MeanFlow differentiates forward"
    with pytest.raises(ConfigError, match=message):
        jobs.compare(demos, out=tmp_path, entries=("bc", "lstm-gmm+meanflow"), demonstrations=(2,), steps=1)
    assert not (tmp_path / "train").exists()


@pytest.mark.parametrize("text", ["act@ddim:10", "act@4", "meanflow-policy@euler:4", "flow-policy@eulr:4"])
def test_a_line_that_cannot_be_sampled_so_is_refused_before_any_training(text: str) -> None:
    with pytest.raises(ConfigError, match=r"steps|sampler"):
        ComparedRun.parse(text, 100, 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons whose trainings and episodes take no time."""
    module = importlib.import_module("nextmove.jobs.compare_simulated")

    def judge(make: Any, *, name: str, seeds: range, **options: Any) -> Entry:
        still = np.zeros((9, 2), np.float32)
        played = [EpisodeResult(s, s % 3 > len(name) % 2, 0.5, 9, 10.0, still, task="pusht") for s in seeds]
        return Entry(name, played, Latency((1.0,), 1.0, 8, 1), facts={"minutes": 1.0})

    demos = SimpleNamespace(refuse=lambda *_: None, outdated=lambda *_: "")
    monkeypatch.setattr(module, "_check", lambda *_: demos)
    monkeypatch.setattr(importlib.import_module("nextmove.jobs.trainings"), "train_or_resume", lambda *_: None)
    monkeypatch.setattr(module, "load_policy", lambda *_, **__: None)
    monkeypatch.setattr(module, "judge", judge)
    monkeypatch.setattr(module, "timed", lambda *_: Latency((7.0,), 7.0, 8, 1))
    monkeypatch.setattr(module, "machine", lambda: {"processor": "abacus"})


@pytest.mark.usefixtures("quick", "unrendered")
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
    printed = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[0] for line in printed[:5]] == report["best_first"]
    assert "4 of 6 held-out seeds solved (67%, 95 % interval 30% to 90%)" in printed[0]
    assert printed[5] == f"{report['notes']} Open {tmp_path / 'report.html'}"


@pytest.mark.usefixtures("quick", "unrendered")
def test_a_line_judged_on_other_episodes_is_refused_before_any_work(tmp_path: Path) -> None:
    jobs.compare(tmp_path, entries=("bc",), out=tmp_path, episodes=4)
    message = r"bc-n100-s0.json: expected 6 episodes from seed 100000 on pusht, found 4 from seed 100000 on pusht"
    with pytest.raises(ConfigError, match=message):
        jobs.compare(tmp_path, entries=("act", "bc"), out=tmp_path, episodes=6)
    assert [path.stem for path in (tmp_path / "judged").iterdir()] == ["bc-n100-s0"]


@pytest.mark.usefixtures("quick", "unrendered")
def test_a_judged_line_tells_when_and_where_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"out": tmp_path, "episodes": 4}
    jobs.compare(tmp_path, entries=("bc", "act"), **settings)
    paths = [tmp_path / "judged" / f"{name}-n100-s0.json" for name in ("bc", "act")]
    # A file of another day that names neither simulator nor machine, nor the task of its episodes.
    record = json.loads(paths[0].read_text())
    for episode in record["results"]:
        del episode["task"]
    paths[0].write_text(json.dumps({k: v for k, v in record.items() if k not in ("simulator", "machine", "compare")}))
    module = importlib.import_module("nextmove.jobs.compare_simulated")
    monkeypatch.setattr(module, "machine", lambda: {"processor": "quill"})
    monkeypatch.setattr(module.time, "strftime", lambda *_: "2100-01-01")
    report = jobs.compare(tmp_path, entries=("act",), retime=True, **settings)
    facts = {name: policy["facts"] for name, policy in report["policies"].items()}
    assert (facts["act-n100-s0"]["date"], facts["act-n100-s0"]["machine"]) == ("2100-01-01", {"processor": "quill"})
    assert facts["bc-n100-s0"]["date"] == record["date"]
    assert "machine" not in facts["bc-n100-s0"]
    assert [report["policies"][f"{name}-n100-s0"]["ms_per_chunk"]["p50"] for name in ("bc", "act")] == [1.0, 7.0]
    act = json.loads(paths[1].read_text())
    assert act["line"] == {
        "system": "act", "sampler": None, "steps": 0, "episodes": 100, "seed": 0, "decoder": None, "fields": [],
    }  # fmt: skip
    assert "--retime" not in act["compare"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"entries": ("bc", "gpt")}, "entries: expected policies, found 'gpt', a system of text"),
        ({"entries": (f"act,optim.lr=0.001{'0' * 180}",)}, "name for files of at most 200 bytes, found"),
        ({"episodes": 0}, "episodes: expected at least 1, found 0"),
        ({"demonstrations": (2, 0)}, "demonstrations: expected at least 1, found 0"),
        ({"demonstrations": (2, 9)}, "demonstrations: expected at most 4, found 9"),
        ({"train_seeds": (0, -1)}, "train_seeds: expected at least 0, found -1"),
        ({"task": "pushx"}, "pushx"),
    ],
)
def test_what_does_not_fit_is_named_before_any_training(
    demos: Path, tmp_path: Path, asked: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("nextmove.jobs.trainings"), "train", None)
    with pytest.raises((ConfigError, SimulatorError), match=message):
        jobs.compare(demos, **{"out": tmp_path, "entries": ("bc",), "demonstrations": (2,), "steps": 1, **asked})


def test_demonstrations_of_another_robot_are_named_before_any_training(tmp_path: Path) -> None:
    number = {"dtype": "float32", "shape": [3], "names": None}
    writer = data.DatasetWriter(tmp_path / "set", {"observation.state": number, "action": number}, 10)
    writer.add_episode({n: np.zeros((9, 3), np.float32) for n in ("observation.state", "action")}, "x")
    writer.finalize()
    with pytest.raises(ConfigError, match=r"observation.state: expected shape \[2\], found \[3\]"):
        jobs.compare(tmp_path / "set", out=tmp_path / "out", demonstrations=(1,), steps=1)
    with pytest.raises(data.DataError, match=r"nowhere/meta/info\.json: file is missing"):
        jobs.compare(tmp_path / "nowhere", out=tmp_path / "out", demonstrations=(1,), steps=1)


@pytest.mark.usefixtures("short", "unrendered")
def test_trainings_of_another_budget_or_other_data_are_not_taken_for_those_asked_for(
    demos: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"out": tmp_path / "out", "entries": ("bc",), "demonstrations": (2,), "episodes": 1}
    settings |= {"video": 0, "workers": 0}
    jobs.compare(demos, steps=2, **settings)
    with pytest.raises(ConfigError, match="bc-n2-s0: expected a training of 3 steps, found one of 2 steps"):
        jobs.compare(demos, steps=3, **settings)
    with pytest.raises(ConfigError, match=r"expected a training of 1 minutes \(busy\), found one of 2 steps"):
        jobs.compare(demos, minutes=1, **settings)
    # A copy holds the same; what matters is the episodes asked for.
    copy = shutil.copytree(demos, tmp_path / "copy")
    assert jobs.compare(copy, steps=2, **settings)["policies"]["bc-n2-s0"]["facts"]["budget"] == "2 steps"
    for episode, refused in ((3, False), (1, True)):
        edit(copy, 0, "action", put((int(data.open_dataset(copy).episode_from[episode]), 0), 7.0))
        if refused:
            with pytest.raises(ConfigError, match=r"bc-n2-s0: was trained on other demonstrations than .*copy holds"):
                jobs.compare(copy, steps=2, **settings)
        else:
            jobs.compare(copy, steps=2, **settings)


@pytest.mark.usefixtures("short", "unrendered")
def test_judgements_of_trainings_that_are_gone_are_made_anew_or_left_out(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"demonstrations": (2,), "steps": 2, "episodes": 1, "video": 0, "workers": 0}
    compare = partial(jobs.compare, demos, out=tmp_path, **settings)
    first = compare(entries=("bc",))["policies"]["bc-n2-s0"]["facts"]
    run, path = tmp_path / "train" / "bc-n2-s0", tmp_path / "judged" / "bc-n2-s0.json"
    assert first["weights_hash"] == store.weights_hash(run) == json.loads(path.read_text())["facts"]["weights_hash"]
    assert first["data_hash"] == json.loads(path.read_text())["facts"]["data_hash"]
    shutil.rmtree(run)
    report = compare(entries=("bc",), train_seeds=(1,))
    assert list(report["policies"]) == ["bc-n2-s1"]
    assert report["notes"] == "Left out, its training is gone: bc-n2-s0."
    assert report["notes"] in capsys.readouterr().out
    jobs.train("bc", demos, out=run, steps=2, episodes=2, seed=5)
    assert "Left out, its training was done anew: bc-n2-s0." in compare(entries=("bc",), train_seeds=(1,))["notes"]
    again = compare(entries=("bc",))["policies"]["bc-n2-s0"]["facts"]
    assert "bc-n2-s0: its training was done anew since it was judged; it is judged anew" in capsys.readouterr().out
    assert again["weights_hash"] == store.weights_hash(run) != first["weights_hash"]
    assert again["seed"] == 5


def test_models_of_older_versions_are_known_by_their_frames(demos: Path, tmp_path: Path) -> None:
    jobs.train("bc", demos, out=tmp_path / "run", steps=1, episodes=3, holdout=0.4)
    facts = store.read_config(tmp_path / "run" / "model")["facts"]
    content, found = facts.pop("content"), Demonstrations(demos)
    assert found.made(facts | {"content": content}, 3)
    assert found.made(facts, 3)
    assert not found.made(facts | {"windows": facts["windows"] + 1}, 3)
    assert not found.made(facts, 4)
    judged = {"steps": 1, "loss": facts["loss"], "minutes": facts["minutes"]}
    assert found.outdated(judged, tmp_path / "run", 3) == ""
    assert found.outdated(judged | {"loss": 9.0}, tmp_path / "run", 3) == "its training was done anew"


def test_a_demo_of_another_budget_is_not_taken_for_the_one_asked_for(demos: Path, tmp_path: Path) -> None:
    shutil.copytree(demos, tmp_path / "demos")
    jobs.train("bc", demos, out=tmp_path / "bc", steps=1)
    with pytest.raises(ConfigError, match=r"bc: expected a training of 2 minutes \(wall\), found one of 1 steps; ask"):
        jobs.demo(out=tmp_path, demonstrations=4, minutes=2, system="bc", workers=0)
