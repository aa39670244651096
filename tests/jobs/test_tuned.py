"""Fine-tuning: a whole saved policy goes on learning, with adapters or without; what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.jobs.conftest import SMALL

from nextmove import jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.jobs.adopt import slots
from nextmove.jobs.tasks import Asked
from nextmove.jobs.tasks.policy import Options, task
from nextmove.models import adapters
from nextmove.nn import lora
from nextmove.nn.lora import Lora

QUIET = {"threads": 1, "bf16": "off", "predict": False, "progress": "off", "holdout": 0.25}


def scales(policy) -> set[str]:
    return {name for name, _ in policy.named_buffers()}


def plan(policy) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    obs = {name: torch.randn(2, 2, *f.shape, generator=generator) for name, f in policy.inputs.items()}
    return policy.act(obs, rng=seeded(1)).actions


def test_a_whole_policy_begins_with_its_weights_and_the_scales_of_new_data(run: Path, demos: Path, capsys) -> None:
    saved = store.load(run)
    start = slots([str(run)])
    for keep in (False, True):
        asked = Asked("flow-policy", str(demos), start=start, holdout=0.5)
        model = task(asked, Options(keep_scales=keep)).model
        assert model.card.recipe == saved.card.recipe
        for name, value in model.state_dict().items():
            if keep or name not in scales(model):
                assert torch.equal(value, saved.state_dict()[name]), name
        others = [name for name in scales(model) if not torch.equal(model.state_dict()[name], saved.state_dict()[name])]
        assert bool(others) != keep
    assert "begins with all weights of" in capsys.readouterr().out


def test_adapters_are_trained_saved_apart_and_merged(run: Path, demos: Path, tmp_path: Path, capsys) -> None:
    options = {"start": [str(run)], "keep_scales": True, "lora": 2, **QUIET}
    tuned = jobs.train("flow-policy", demos, out=tmp_path, steps=8, **options)
    assert "adapters of rank 2 on " in capsys.readouterr().out
    base = store.load(run)
    names = set(base.state_dict())
    assert set(tuned.state_dict()) == names
    assert not torch.equal(plan(tuned), plan(base))
    apart = store.load(run)
    config = adapters.load(apart, tmp_path / "adapters.safetensors")
    assert (config.rank, config.alpha, config.names) == (2, 4.0, ("*",))
    torch.testing.assert_close(plan(apart.eval()), plan(tuned), atol=1e-4, rtol=1e-4)
    # What a checkpoint holds is the adapters alone, and the run goes on from it.
    held = load_file(next((tmp_path / "checkpoints").glob("last-*")) / "state.safetensors")
    assert all(".adapter" in name for name in held if name.startswith("model/") and name[6:] not in scales(tuned))
    again = jobs.train("flow-policy", demos, out=tmp_path, steps=12, resume=True, **options)
    assert again.facts["steps"] == 12
    assert again.facts["adapters"]["rank"] == 2
    assert again.facts["start"]["model"] == store.weights_hash(run)
    with pytest.raises(ValueError, match=r"data\.adapters\.rank"):
        jobs.train("flow-policy", demos, out=tmp_path, steps=16, resume=True, **{**options, "lora": 4})


def test_a_model_with_adapters_is_saved_and_loaded_with_them(run: Path, tmp_path: Path) -> None:
    policy = store.load(run)
    policy.adapters = Lora(rank=3, alpha=1.5, names=("decoder.*",))
    lora.adapt(policy, policy.adapters)
    with torch.no_grad():
        for value in lora.state(policy).values():
            value.normal_(generator=torch.Generator().manual_seed(0))
    store.save(policy, tmp_path)
    loaded = store.load(tmp_path)
    assert loaded.adapters == policy.adapters
    assert torch.equal(plan(loaded), plan(policy.eval()))
    assert json.loads((tmp_path / "config.json").read_text())["adapters"]["rank"] == 3
    assert lora.merge(loaded)


def test_only_the_layers_that_are_named_have_adapters(run: Path, demos: Path, tmp_path: Path) -> None:
    options = {"start": [str(run)], "lora": 2, "steps": 1, "out": tmp_path / "a", **QUIET}
    tuned = jobs.train("flow-policy", demos, lora_names=("decoder.net.*",), **options)
    assert tuned.facts["adapters"]["names"] == ["decoder.net.*"]
    with pytest.raises(ConfigError, match=r"--lora: names: no linear layer is called 'decodr\.\*'; there are decoder"):
        jobs.train("flow-policy", demos, lora_names=("decodr.*",), **{**options, "out": tmp_path / "b"})


def test_what_cannot_begin_is_named(run: Path, demos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--from .*: expected a model of bc, found one of flow-policy; train that"):
        jobs.train("bc", demos, out=tmp_path / "a", start=[str(run)], steps=1)
    golden = Path(__file__).parents[1] / "golden" / "act_state"
    with pytest.raises((ConfigError, FileNotFoundError)):
        jobs.train("act", demos, out=tmp_path / "b", start=[str(golden)], steps=1)
    recipe = replace(SMALL, decoder=replace(SMALL.decoder, trunk=replace(SMALL.decoder.trunk, width=64)))
    with pytest.raises(ConfigError, match=r"--from .*: .*decoder"):
        jobs.train("flow-policy", demos, out=tmp_path / "c", start=[str(run)], steps=1, recipe=recipe)


def test_the_command_takes_the_recipe_of_the_policy_that_it_begins_with(run: Path, demos: Path, tmp_path: Path) -> None:
    words = ["--steps", "1", "--threads", "1", "--bf16", "off", "--progress", "off", "--recipe.optim.lr", "1e-5"]
    for given in (["--from", str(run)], [f"--from={run}"]):
        out = tmp_path / str(len(given))
        assert main(["train", "flow-policy", "--data", str(demos), *given, "--out", str(out), *words]) == 0
        tuned = store.load(out)
        assert tuned.card.recipe.decoder == SMALL.decoder
        assert tuned.card.recipe.optim.lr == 1e-5
    assert main(["train", "flow-policy", str(demos), "--from", str(run), "--trunk", "unet1d", "--steps", "1"]) == 1
