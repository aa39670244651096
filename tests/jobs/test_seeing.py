"""A policy of a camera, an instruction and a state, from recording to comparison."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nextmove import data, jobs, store
from nextmove.config import ConfigError
from nextmove.data import identity
from nextmove.encoders import Camera, FilmedCamera, Observation, State
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.robot import known_by
from nextmove.jobs.tasks.policy import spec_of
from nextmove.models.policy.bc import BC
from nextmove.models.policy.bc_z import BcZ
from nextmove.nn.small_resnet import SmallResNet
from nextmove.systems import find

CAMERA = Camera(pool="average", backbone=SmallResNet((8, 16)))
RECIPE = BcZ(
    encoder=Observation((FilmedCamera(CAMERA), State(("observation.state",), view="plain"))),
    optim=replace(BcZ().optim, batch=8),
)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("filmed") / "set"
    return jobs.record("pusht", out=out, episodes=3, cameras=("image=40x40",), workers=0)


@pytest.mark.usefixtures("short", "unrendered")
def test_it_is_trained_judged_and_compared(
    filmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("nextmove.jobs.trainings")
    recipes: dict[str, Any] = {"bc": BC(), "bc-z": RECIPE}

    def train(system: str, *args: Any, **options: Any) -> Any:
        return jobs.train(system, *args, **{**options, "recipe": recipes[system]})

    monkeypatch.setattr(module, "train", train)
    settings: dict[str, Any] = {"demonstrations": (3,), "steps": 2, "episodes": 1, "video": 0, "workers": 0}
    report = jobs.compare(filmed, out=tmp_path, entries=("bc", "bc-z"), **settings)
    assert list(report["policies"]) == ["bc-n3-s0", "bc-z-n3-s0"]
    assert len(report["comparisons"]) == 1
    out = capsys.readouterr().out
    assert "not used: observation.environment_state, observation.goal" in out
    assert "Left out" not in out
    policy = store.load(tmp_path / "train" / "bc-z-n3-s0" / "model")
    assert list(policy.inputs) == ["observation.image", "task", "observation.state"]
    assert policy.inputs["observation.image"].shape == (40, 40, 3)
    offline = jobs.evaluate(tmp_path / "train" / "bc-z-n3-s0", data=filmed, windows=8, out=tmp_path / "offline")
    assert "bc-z-n3-s0" in offline["policies"]


def test_what_it_lacks_is_named_with_what_is_there(filmed: Path, demos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"camera: expected an input of type image, found observation\.state"):
        jobs.train("bc-z", demos, out=tmp_path / "blind", steps=1)
    assert not (tmp_path / "blind").exists()
    jobs.train("bc-z", filmed, out=tmp_path / "run", steps=1, recipe=RECIPE, threads=1)
    with pytest.raises(ConfigError, match=r"observation\.image: expected a camera, found only observation\.state"):
        jobs.evaluate(tmp_path / "run", data=demos)


def test_episodes_are_known_by_numbers_and_instruction(filmed: Path) -> None:
    dataset = data.open_dataset(filmed)
    policy = find("bc-z").load()().build(spec_of(dataset))
    names = known_by(policy)
    assert names == ["observation.state", "task"]
    features = identity.identify(dataset, names).features
    assert Demonstrations(filmed).made({"content": {"features": features}})
    other = dict(features) | {"task": "0" * 16}
    assert not Demonstrations(filmed).made({"content": {"features": other}})
    assert len(identity.traces(dataset, [])) > 0
