"""A policy that keeps the tokens of pictures that do not change is judged, and what that costs is said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.sim.lamps import FRONT, LAMPS

from nextmove import jobs, sim, store
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature
from nextmove.decoders import Sampler
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.smolvla import SmolVla

STATE = "observation.state"
SAID = r"float32, unchanged up to 0 levels: over 12 plans actions differ from float32's by at most 0 \(0\.00% .*; {}"


def small() -> SmolVla:
    """Two layers of each network and a step a plan: what is judged is how often it looks."""
    recipe = SmolVla()
    towers = tuple(replace(tower, layers=2) for tower in recipe.encoder.towers)
    reading = replace(recipe.encoder, language=replace(recipe.encoder.language, layers=2), towers=towers)
    return replace(recipe, encoder=reading, decoder=replace(recipe.decoder, sampler=Sampler(steps=1)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)
    inputs = {STATE: Feature("state", (1,)), FRONT: Feature("image", (8, 12, 3)), TASK: Feature("text")}
    spec = PolicySpec(inputs, 1, 10)
    policy = store.create("smolvla", spec, small())
    # It is sent far away, where no lamp ends an episode early.
    numbers = {STATE: torch.randn(9, 1, 1), "action": 100 + torch.randn(9, policy.horizon, 1)}
    policy.fit([{**numbers, "action_is_pad": torch.zeros(9, policy.horizon, dtype=torch.bool)}])
    store.save(policy.eval(), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.usefixtures("unrendered")
def test_how_many_were_kept_and_what_it_costs_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"task": "lamps", "episodes": 2, "video": 0, "workers": 0, "execute": 1}
    kept = jobs.evaluate(run, unchanged=0.0, **asked)
    # A lamp stands still: the first of three plans of an episode looks at it.
    said = re.search(SAID.format("8 of 12 pictures kept their tokens"), capsys.readouterr().out)
    assert said
    (name,) = kept["policies"]
    assert name == "run-execute1-unchanged0"
    assert kept["policies"][name]["facts"]["precision"].startswith(said.group(0))
    assert "--unchanged 0" in kept["commands"][0]
    looked = jobs.evaluate(run, **asked)
    (own,), (other,) = (report["policies"].values() for report in (looked, kept))
    assert [e["max_reward"] for e in own["episodes"]] == [e["max_reward"] for e in other["episodes"]]
    assert "precision" not in own["facts"]


@pytest.mark.usefixtures("unrendered")
def test_a_blind_policy_is_compared_with_a_blind_one_and_keeps_no_noise(run: Path) -> None:
    report = jobs.evaluate(run, task="lamps", episodes=1, video=0, workers=0, execute=1, unchanged=0.0, blind=True)
    found = report["policies"]["run-execute1-unchanged0-blind"]["facts"]["precision"]
    assert re.fullmatch(SAID.format("0 of 12 pictures kept their tokens"), found)


def test_what_it_does_not_go_with_is_named(run: Path) -> None:
    with pytest.raises(ConfigError, match="batched: tokens are kept of one robot's pictures; leave out --batched or"):
        jobs.evaluate(run, task="lamps", batched=True, unchanged=1.0)
    with pytest.raises(ConfigError, match="unchanged: for a simulator, found --data; leave out --unchanged"):
        jobs.evaluate(run, data=run, unchanged=1.0)
    with pytest.raises(ConfigError, match="unchanged: expected levels of 255 of at least 0, found nan"):
        jobs.load_policy(run, unchanged=float("nan"))
