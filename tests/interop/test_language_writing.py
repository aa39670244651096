"""Language models of transformers with their tokenizers: text is written and judged as by models of ours."""

import json
import math

import pytest
import torch
from tests.golden.materialise import materialise
from tests.interop.edits import edit, edit_tensors
from tests.interop.test_cases import GOLDEN

from nextmove.codecs.byte_level import bpe, byte_tokenizer
from nextmove.contracts import seeded, uniform
from nextmove.decoders.sampling import Sampling
from nextmove.interop import hf

LETTERS = bpe((*"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "Ġth", "Ġthe"), ("t h", "Ġ th", "Ġth e"))


@pytest.fixture
def folder(request, tmp_path):
    return materialise(GOLDEN / request.param, tmp_path / "model")


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_a_folder_with_a_tokenizer_is_a_generator_of_text(folder):
    without = hf.load(folder)
    assert "no tokenizer.json" in str(without.report)
    with pytest.raises(ValueError, match=r"its tokenizer\.json is absent"):
        list(without.model.write("the", new=3, rng=seeded(0)))
    (folder / "tokenizer.json").write_text(LETTERS.text)
    model = hf.load(folder).model
    assert "tokenizer.json" not in str(hf.load(folder).report)
    # Only ids that the tokenizer has; the model has more.
    letters = torch.arange(128) < LETTERS.classes
    options = {"new": 30, "allowed": lambda i, before: letters, "stop": ()}
    text = "".join(model.write("the sea", rng=seeded(0), **options))
    prompt = LETTERS.encode("the sea")
    made = model.complete(prompt[None], rng=seeded(0), **options)[0]
    assert LETTERS.decode(made) == "the sea" + text
    logits = without.logits(made[None, :-1])[:, len(prompt) - 1 :].masked_fill(~letters, -torch.inf)
    noise = uniform((1, len(prompt) + 30), seeded(0))[:, len(prompt) :]
    assert torch.equal(Sampling().choose(logits, noise)[0], made[len(prompt) :])
    with pytest.raises(ValueError, match="prompt: expected a text, for this model has no token that begins one"):
        list(model.write("", new=3, rng=seeded(0)))
    # The ids that end a text are the folder's, and are not written.
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert model.stop == (stops,)
    ended = [*model.stream(prompt[None], new=3, rng=seeded(0), allowed=lambda i, before: torch.arange(128) == stops)]
    assert torch.stack(ended, 1).tolist() == [[stops]]
    assert "".join(model.write("a", new=9, rng=seeded(0), allowed=lambda i, b: torch.arange(128) == stops)) == ""


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_the_command_writes_text_with_a_model_of_transformers(folder, capsys):
    from nextmove import jobs

    (folder / "tokenizer.json").write_text(LETTERS.text)
    # As many ids as the tokenizer: what is drawn can be written.
    keep = LETTERS.classes
    edit_tensors(folder, lambda found: found.update({"transformer.wte.weight": found["transformer.wte.weight"][:keep]}))
    edit(folder, vocab_size=keep)
    (folder / "generation_config.json").write_text("{}")
    edit(folder, eos_token_id=None)
    first = jobs.generate(folder, prompt="the ", length=20, seed=3, threads=1)
    assert first.startswith("the ")
    assert len(LETTERS.encode(first)) <= 4 + 20
    assert jobs.generate(folder, prompt="the ", length=20, seed=3, threads=1) == first
    assert jobs.generate(folder, prompt="the ", length=20, seed=4, threads=1) != first
    assert first in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_older_tables_of_gpt2_are_its_tokenizer(folder):
    table = json.loads(LETTERS.text)["model"]
    (folder / "vocab.json").write_text(json.dumps(table["vocab"]))
    merges = ["#version: 0.2", *(" ".join(pair) for pair in table["merges"])]
    (folder / "merges.txt").write_text("\n".join(merges))
    assert hf.load(folder).model.text.encode("the sea").tolist() == LETTERS.encode("the sea").tolist()
    (folder / "vocab.json").write_text(json.dumps({**table["vocab"], "a": 127}))
    with pytest.raises(ValueError, match=r"vocab\.json: expected ids 0, 1, 2"):
        hf.load(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected a tokenizer of the library"):
        hf.load(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer().text)
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected at most the 128 ids of the model, found 259"):
        hf.load(folder)


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_a_model_of_transformers_is_judged_on_a_text(folder, tmp_path):
    from nextmove import jobs

    (folder / "tokenizer.json").write_text(LETTERS.text)
    (tmp_path / "text.txt").write_text("the sea sees the other theme " * 200)
    with pytest.raises(ValueError, match=r"data: .* does not say what it was trained on; expected --data"):
        jobs.judge_generator(folder)
    found = jobs.judge_generator(folder, data=tmp_path / "text.txt", out=tmp_path / "out")
    ids = LETTERS.encode("the sea sees the other theme " * 200)
    assert found["likelihood"]["nats_per_token"] > 0
    assert found["likelihood"]["bits_per_character"] == pytest.approx(
        found["likelihood"]["nats_per_token"] / math.log(2) * len(ids) / 5800, rel=0.02
    )
