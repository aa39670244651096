"""Damaged saved models are refused by file and key, by every command that reads them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from safetensors.torch import save_file

from nextmove import formats, store
from nextmove.cli.main import main
from nextmove.config import ConfigError, decode
from nextmove.contracts import Context, ContextSpec, normal, seeded, total
from nextmove.decoders import diffusion, known
from nextmove.folders import open_folder
from nextmove.jobs.evaluate import load_policy
from nextmove.models.policy import PolicySpec
from nextmove.nn import attention, detr, feedforward, gpt, rope
from nextmove.parts import PARTS, SPECS
from nextmove.systems import find

GOLDEN = Path(__file__).parent / "golden"
FORMAT_2: dict[str, Any] = json.loads((GOLDEN / "store_format2.json").read_text())
FORMAT_1: dict[str, Any] = json.loads((GOLDEN / "store_format1.json").read_text())
GENERATORS_2: dict[str, Any] = json.loads((GOLDEN / "store_format2_generators.json").read_text())

DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no system": (lambda c: c.pop("system"), "missing key 'system'"),
    "no recipe": (lambda c: c.pop("recipe"), "missing key 'recipe'"),
    "no spec": (lambda c: c.pop("spec"), "missing key 'spec'"),
    "no facts": (lambda c: c.pop("facts"), "missing key 'facts'"),
    "facts of another kind": (lambda c: c.update(facts=[1]), r"facts: expected dict, found \[1\]"),
    "another format": (lambda c: c.update(format=4), "format: expected 1, 2 or 3, found 4"),
    "an unknown key": (lambda c: c.update(adapter={}), "unknown key 'adapter', expected system, recipe"),
    "unknown system": (lambda c: c.update(system="bcc"), "'bcc', did you mean 'bc'"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = store.create("bc", PolicySpec.of_states({"observation.state": 3}, 2, 10))
    return store.save(model, tmp_path / "m", facts={"data": "none"})


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("read", [store.load, load_policy], ids=lambda f: f.__name__)
def test_a_weight_that_is_not_what_was_written_is_named_with_its_file(folder: Path, read: Callable[..., Any]) -> None:
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"model\.safetensors: damaged: .*checksum in config\.json"):
        read(folder)
    # Models saved before hold none, and who changes weights by hand may remove it.
    rewrite(folder, lambda c: c.pop("sha256"))
    read(folder)


@pytest.mark.parametrize("fps", [0, -10.0, math.nan, math.inf])
def test_a_rate_at_which_nobody_acts_is_named(folder: Path, fps: float) -> None:
    rewrite(folder, lambda c: c["spec"].update(fps=fps))
    named = r"config\.json: spec\.fps: expected a finite number of actions a second above 0, found"
    with pytest.raises(ConfigError, match=named):
        store.load(folder)


@pytest.mark.parametrize("read", [store.load, store.read_config, load_policy], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_key_that_is_wrong_is_named_with_its_file(
    folder: Path, read: Callable[[Path], Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ConfigError, match=rf"{folder}/config\.json: .*{message}"):
        read(folder)


@pytest.mark.parametrize("read", [store.load, load_policy, open_folder], ids=lambda f: f.__name__)
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
        (lambda c: c.update(system="akt"), "no system is called 'akt', did you mean 'act'"),
        (lambda c: c.update(system="act"), "recipe.kind: expected 'Act', found 'BC'"),
        (lambda c: c["recipe"].update(timming={}), "recipe: unknown key 'timming', did you mean 'timing'"),
        (lambda c: c["recipe"]["timing"].update(horizon=0), "timing.horizon: expected at least 1, found 0"),
        (lambda c: c.update(spec={}), "spec: missing key 'inputs'"),
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


@pytest.mark.parametrize("case", [*FORMAT_1.values(), *GENERATORS_2.values()], ids=[*FORMAT_1, *GENERATORS_2])
def test_models_of_earlier_formats_load_and_answer_as_they_did(case: dict[str, Any], tmp_path: Path) -> None:
    """Names and shapes as the format had them, weights drawn from each name, and the loss that release computed."""
    system = case["config"]["system"]
    weights = {n: 0.3 * normal(shape, seeded(zlib.crc32(n.encode()))) for n, shape in case["tensors"].items()}
    (tmp_path / "config.json").write_text(json.dumps(case["config"]))
    card = formats.up_to_date(case["config"])
    recipe = decode(find(system).load(), card["recipe"], parts=PARTS)
    spec = decode(get_type_hints(recipe.build)["spec"], card["spec"], parts=(*PARTS, *SPECS))
    model = store.create(system, spec, recipe)
    learned = {name for name, _ in model.named_parameters()}
    save_file(
        weights | {n.replace("parts.0.scale", "scale"): v for n, v in model.state_dict().items() if n not in learned},
        tmp_path / "model.safetensors",
    )
    model = store.load(tmp_path)
    promised = ContextSpec() if model.encoder is None else model.encoder.spec
    vector = normal((2, promised.vector), seeded(1)) if promised.vector else None
    tokens = normal((2, promised.tokens, promised.token), seeded(2)) if promised.token else None
    ctx = Context(2, vector, tokens)
    shape = (2, *model.shape)
    x = {
        "gpt": torch.tensor([[0, 1, 2, 2, 1, 0], [2, 2, 0, 1, 0, 1]]),
        **dict.fromkeys(("imagegpt", "pixelcnn", "pixelrnn"), torch.randint(4, (2, 64), generator=seeded(4))),
    }.get(system.removesuffix("-modern"), normal(shape, seeded(4)))
    loss = total(model.decoder.loss(ctx.replace(null=ctx), x, weight=None, rng=seeded(3)))
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    store.save(model, tmp_path / "new")
    assert store.read_config(tmp_path / "new")["format"] == 3
    again = store.load(tmp_path / "new").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.named_parameters())


def test_names_of_earlier_formats_lead_to_kinds_and_fields_of_today() -> None:
    kinds = {name: kind for home in (attention, detr, diffusion, feedforward, gpt, known, rope)
             for name, kind in vars(home).items()}  # fmt: skip
    assert all(fields(kinds[kind]) is not None for kind in formats.KINDS.values())
    for kind, renamed in formats.FIELDS.items():
        assert set(renamed.values()) <= {field.name for field in fields(kinds[kind])}, kind


@pytest.mark.parametrize("case", FORMAT_2)
def test_policies_saved_in_format_2_load_and_answer_as_they_did(case: str, tmp_path: Path) -> None:
    """Configs as format 2 had them, weights drawn from each name, loss and plan that release computed."""
    saved, widths = FORMAT_2[case], {"observation.state": 2, "observation.environment_state": 6, "observation.goal": 6}
    (tmp_path / "config.json").write_text(json.dumps(saved["config"]))
    card = formats.up_to_date(saved["config"])
    recipe = decode(find(card["system"]).load(), card["recipe"], parts=PARTS)
    fitted = store.create(card["system"], decode(PolicySpec, card["spec"]), recipe)
    batch = {n: 50 * normal((8, fitted.n_obs_steps, w), seeded(i)) for i, (n, w) in enumerate(widths.items())}
    batch["action"] = batch["observation.state"][:, -1:] + normal((8, fitted.horizon, 2), seeded(9))
    batch["action_is_pad"] = torch.arange(fitted.horizon) >= fitted.horizon - torch.arange(8)[:, None] % 4
    fitted.fit([batch])
    old = {n.replace("parts.0.scale", "scale"): v for n, v in fitted.state_dict().items()}
    weights = {n: 0.3 * normal(shape, seeded(zlib.crc32(n.encode()))) for n, shape in saved["parameters"].items()}
    save_file({n: old[n].contiguous() for n in saved["buffers"]} | weights, tmp_path / "model.safetensors")
    model = store.load(tmp_path)
    assert model.spec.names == {"observation.state": ("x", "y"), "action": ("x", "y")}
    assert total(model.loss(batch, rng=seeded(3))).item() == pytest.approx(saved["loss"], rel=1e-5)
    assert model.act(batch, rng=seeded(4)).actions[0, 0].tolist() == pytest.approx(saved["plan"], rel=1e-4)


def test_loading_a_policy_imports_no_recipe_but_its_own(folder: Path) -> None:
    code = f"import sys; from nextmove import store; store.load({str(folder)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "nextmove.models.policy.bc" in loaded
    for name in ("nextmove.models.image", "nextmove.models.text", "nextmove.interop", "nextmove.data", "scipy", "tyro"):
        assert name not in loaded, name


def test_a_model_without_a_card_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found one without a card"):
        store.save(find("bc").load()().build(PolicySpec.of_states({"observation.state": 3}, 2, 10)), tmp_path)
