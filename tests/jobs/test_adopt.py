"""Parts of saved models begin parts of new ones; what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.jobs.conftest import SMALL
from tests.models.test_policies import make

from nextmove import jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.jobs.adopt import begin, slots


def test_a_part_takes_weights_and_statistics_and_nothing_else(tmp_path: Path, capsys) -> None:
    saved = make("flow-policy")
    with torch.no_grad():
        for value in (*saved.parameters(), *saved.buffers()):
            value.add_(1) if value.is_floating_point() else None
    hashes = begin(model := make("flow-policy"), {"decoder.net": store.save(saved, tmp_path), "encoder": tmp_path})
    assert hashes == dict.fromkeys(["decoder.net", "encoder"], store.weights_hash(tmp_path))
    assert f"encoder: begins with the weights and statistics of {tmp_path}" in capsys.readouterr().out
    untouched = make("flow-policy").state_dict()
    for name, value in model.state_dict().items():
        adopted = name.startswith(("decoder.net.", "encoder."))
        assert torch.equal(value, (saved.state_dict() if adopted else untouched)[name]), name
    assert any(
        name.startswith("codec.") and not torch.equal(v, saved.state_dict()[name]) for name, v in untouched.items()
    )


@pytest.mark.parametrize(
    ("system", "slot", "message"),
    [
        ("bc", "decoder.net", r"--from decoder\.net=.*: .*expected \w+, found \w+"),
        (
            "flow-policy",
            "decodr",
            r"expected a part of that name in the model to train, .* did you mean 'decoder'",
        ),
        ("flow-policy", "decoder.nett", "expected a part of that name in .* did you mean 'decoder.net'"),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path: Path, system: str, slot: str, message: str) -> None:
    folder = store.save(make(system), tmp_path)
    with pytest.raises(ConfigError, match=message):
        begin(make("flow-policy"), {slot: folder})


def test_parts_of_other_sizes_are_named(tmp_path: Path) -> None:
    model = make("flow-policy")
    recipe = model.card.recipe
    trunk = replace(recipe.decoder.trunk, width=2 * recipe.decoder.trunk.width)
    wider = store.create("flow-policy", model.spec, replace(recipe, decoder=replace(recipe.decoder, trunk=trunk)))
    with pytest.raises(ConfigError, match=r"--from decoder=.*: decoder\.net\.\S+: expected shape .*, found "):
        begin(model, {"decoder": store.save(wider, tmp_path)})


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (["encoder"], "--from: expected SLOT=FOLDER, such as encoder=runs/act, found 'encoder'"),
        (["=runs"], "found '=runs'"),
        (["a=b", "a=c"], "--from: expected a once, found it twice"),
    ],
)
def test_a_start_that_is_none_is_refused(start, message) -> None:
    with pytest.raises(ConfigError, match=message):
        slots(start)


@pytest.mark.parametrize("kind", ["missing", "foreign"])
def test_a_start_without_a_model_is_refused_before_the_data_are_looked_at(tmp_path: Path, kind: str) -> None:
    (tmp_path / "from").mkdir()
    if kind == "foreign":
        (tmp_path / "from" / "config.json").write_text('{"type": "act"}')
    found = "expected a saved model" if kind == "missing" else r"found one of LeRobot \(act\)"
    with pytest.raises((FileNotFoundError, ConfigError), match=f"--from encoder={tmp_path / 'from'}: .*{found}"):
        jobs.train("bc", tmp_path / "no-data", start=[f"encoder={tmp_path / 'from'}"], steps=1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_frozen_part_of_another_run_stays_as_it_was(demos: Path, run: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, optim=replace(SMALL.optim, scales=(("decoder.net.blocks", 0.0),)))
    options = {"steps": 2, "threads": 1, "holdout": 0.25, "seed": 5, "recipe": recipe, "out": tmp_path / "new"}
    begun = jobs.train("flow-policy", demos, start=[f"decoder.net={run}"], **options)
    saved, model = store.load(run / "model").state_dict(), store.load(tmp_path / "new" / "model")
    frozen = [name for name in saved if name.startswith("decoder.net.blocks.")]
    assert frozen
    assert all(torch.equal(begun.state_dict()[name], saved[name]) for name in frozen)
    assert model.facts["start"] == {"decoder.net": store.weights_hash(run)}
    with pytest.raises(FileNotFoundError, match="expected a saved model"):
        jobs.train("flow-policy", demos, start=["decoder.net=nowhere"], **{**options, "out": tmp_path / "other"})


def test_the_command_line_says_what_does_not_fit(demos: Path, run: Path, tmp_path: Path, capsys) -> None:
    command = ["train", "flow-policy", str(demos), "--steps", "1", "--out", str(tmp_path / "a"), "--from"]
    assert main([*command, f"tokenizer={run}"]) == 1
    assert f"--from tokenizer={run}: expected a part of that name in the model to train" in capsys.readouterr().err
    assert main([*command, "tokenizer"]) == 1
    assert "--from: expected SLOT=FOLDER" in capsys.readouterr().err
