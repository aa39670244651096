"""Damaged saved models are refused by file and key, by every command that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nextmove import store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.generators import family
from nextmove.models.policy import PolicySpec

DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no system": (lambda c: c.pop("system"), "missing key 'system'"),
    "no recipe": (lambda c: c.pop("recipe"), "missing key 'recipe'"),
    "no spec": (lambda c: c.pop("spec"), "missing key 'spec'"),
    "no facts": (lambda c: c.pop("facts"), "missing key 'facts'"),
    "facts of another kind": (lambda c: c.update(facts=[1]), r"facts: expected dict, found \[1\]"),
    "another format": (lambda c: c.update(format=2), "format: expected 1, found 2"),
    "unknown system": (lambda c: c.update(system="bcc"), "'bcc', did you mean 'bc'"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = store.create("bc", PolicySpec({"observation.state": 3}, action=2, fps=10))
    return store.save(model, tmp_path / "m", facts={"data": "none"})


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("read", [store.load, store.read_config, load_policy, family], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_key_that_is_wrong_is_named_with_its_file(
    folder: Path, read: Callable[[Path], Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ConfigError, match=rf"{folder}/config\.json: .*{message}"):
        read(folder)


@pytest.mark.parametrize("read", [store.load, load_policy, family], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("text", "message"), [("[]", "expected an object, found list"), ("{", "not valid JSON")])
def test_a_config_that_is_no_object_is_named(
    folder: Path, read: Callable[[Path], Any], text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"{folder}/config\.json: {message}"):
        read(folder)
    for command in ("inspect", "evaluate", "generate"):
        assert main([command, str(folder)]) == 1
        assert f"{folder}/config.json: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(system="pi0"), "'pi0' is planned"),
        (lambda c: c.update(system="act"), "recipe.kind: expected 'Act', found 'BC'"),
        (lambda c: c["recipe"].update(timming={}), "recipe: unknown key 'timming', did you mean 'timing'"),
        (lambda c: c["recipe"]["timing"].update(horizon=0), "timing.horizon: expected at least 1, found 0"),
        (lambda c: c.update(spec={}), "spec: missing key 'features'"),
        (lambda c: c["spec"].update(kind="ImageSpec"), "spec.kind: expected 'PolicySpec', found 'ImageSpec'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_file(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ConfigError, match=rf"{folder}/config\.json: .*{message}"):
        store.load(folder)


@pytest.mark.parametrize("left", [-500, 0])
def test_weights_that_are_cut_are_named(folder: Path, left: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(ConfigError, match=rf"{weights}: not a valid safetensors file"):
        store.load(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}: expected model\.safetensors"):
        store.load(folder)


def test_whose_folder_it_is(folder: Path, tmp_path: Path) -> None:
    assert store.foreign(folder) is None
    for text, origin in (('{"type": "act"}', "lerobot"), ('{"model_type": "gpt2"}', "hf")):
        (tmp_path / "config.json").write_text(text)
        assert store.foreign(tmp_path) == origin
        assert family(tmp_path) == "policy"
    with pytest.raises(FileNotFoundError, match="expected a saved model"):
        store.foreign(tmp_path / "nothing")
