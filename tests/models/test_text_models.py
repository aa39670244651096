"""Recipes of language models: sizes, that they learn, and that every way of sampling writes the same text."""

import json
from dataclasses import replace

import pytest
import torch

from nextmove import store
from nextmove.codecs import Text
from nextmove.config import ConfigError, decode, encode
from nextmove.contracts import Context, Known, seeded, total, uniform
from nextmove.decoders.sampling import Sampling
from nextmove.formats import up_to_date
from nextmove.models.generator import TextSpec
from nextmove.models.text.assemble import fit_codec, spec_of
from nextmove.models.text.gpt import Gpt2, ModernGpt
from nextmove.models.text.lstm import Lstm
from nextmove.models.text.rnn import Rnn
from nextmove.nn import count
from nextmove.parts import PARTS
from nextmove.training.optim import Update

RECIPES = {"rnn": Rnn, "lstm": Lstm, "gpt2": Gpt2, "modern": ModernGpt}
CORPUS = "she sells sea shells by the sea shore; the shells she sells are sea shells for sure. " * 40


def spec(length=24):
    return TextSpec("characters", length, Text.fit("characters", CORPUS).vocabulary)


@pytest.mark.parametrize("name", RECIPES)
def test_cached_incremental_and_full_sampling_write_the_same(name):
    torch.manual_seed(0)
    model = RECIPES[name]().build(spec(12)).eval()
    decoder, n = model.decoder, 16
    for weight in decoder.parameters():
        # Far enough from uniform that a wrong logit shows.
        weight.data.mul_(2)
    noise = uniform((n, 12), seeded(1))
    prompt = torch.randint(decoder.config.classes, (n, 12), generator=seeded(2))
    known = Known(prompt, (torch.arange(12) < 3).expand(n, 12))
    made = decoder.sample(Context.empty(n), shape=(12,), rng=seeded(0), known=known, noise=noise)
    streamed = torch.stack(list(decoder.stream(Context.empty(n), shape=(12,), rng=seeded(0), known=known, noise=noise)))
    assert torch.equal(streamed.T, made)
    start = torch.full((n, 1), decoder.config.classes)
    ids, cache, one = made[:, :3], None, []
    with torch.no_grad():
        for i in range(3, 12):
            full = decoder.net(torch.cat([start, ids], 1), Context.empty(n), None)[0][:, -1]
            ids = torch.cat([ids, decoder.config.sampling.choose(full, noise[:, i])[:, None]], 1)
        for i in range(12):
            logits, cache = decoder.net(torch.cat([start, made], 1)[:, i : i + 1], Context.empty(n), cache)
            one.append(decoder.config.sampling.choose(logits[:, -1], noise[:, i]))
    assert torch.equal(ids, made)
    assert torch.equal(torch.stack(one, 1)[:, 3:], made[:, 3:])
    assert len(made[:, 3:].unique()) > 5


@pytest.mark.parametrize("name", RECIPES)
def test_learns_a_sentence_and_writes_on(name):
    torch.manual_seed(0)
    recipe = RECIPES[name]()
    model = recipe.build(spec())
    ids = model.codec.encode(CORPUS)
    update = Update(dict(model.named_parameters()), replace(recipe.optim, weight_decay=1e-2), undecayed=set())
    first = None
    for step in range(60):
        start = torch.randint(len(ids) - 24, (8,), generator=seeded(step))
        loss = total(model.loss({"ids": torch.stack([ids[s : s + 24] for s in start.tolist()])}, rng=seeded(0)))
        first = loss.item() if first is None else first
        update.zero()
        loss.backward()
        update.apply(1.0, float(update.norm()))
    assert first == pytest.approx(torch.tensor(float(model.codec.classes)).log().item(), abs=0.3)
    assert loss.item() < 1.0

    def known(model):
        """The share of the runs of five that it writes behind a prompt, past its windows, which the corpus has."""
        text = "sells" + "".join(model.eval().write("she sells", new=60, rng=seeded(1), sampling=Sampling(0)))
        runs = [text[i : i + 5] for i in range(1, len(text) - 4)]
        assert len(runs) == 60
        return sum(run in CORPUS for run in runs) / 60

    torch.manual_seed(1)
    assert known(model) > 0.4
    assert known(recipe.build(spec())) < 0.1


@pytest.mark.parametrize("name", RECIPES)
def test_prompts_of_several_lengths_are_continued_as_each_alone(name):
    """All that is written comes out of `stream`: row by row it is what the row alone would be followed by."""
    torch.manual_seed(0)
    model = RECIPES[name]().build(spec(12)).eval()
    for weight in model.parameters():
        weight.data.mul_(2)
    lengths, new = [1, 4, 2], 6
    rows = [torch.randint(model.codec.classes, (n,), generator=seeded(n)) for n in lengths]
    prompt, mask = torch.full((3, 5), 7), torch.zeros(3, 5, dtype=torch.bool)
    for i, row in enumerate(rows):
        prompt[i, 5 - len(row) :], mask[i, 5 - len(row) :] = row, True
    greedy = {"rng": seeded(0), "sampling": Sampling(temperature=0)}
    made = model.complete(prompt, mask, new=new, **greedy)
    assert torch.equal(made[:, :5], prompt)
    alone = [model.complete(row[None], new=new, **greedy)[0, len(row) :] for row in rows]
    assert torch.equal(made[:, 5:], torch.stack(alone))
    assert torch.equal(torch.stack([*model.stream(prompt, mask, new=new, **greedy)], 1), made[:, 5:])
    # The rows end one after another, those with short prompts before the longest has begun to write.
    stop = [int(alone[0][2]), int(alone[1][0])]
    stopped = model.complete(prompt, mask, new=new, stop=stop, pad=3, **greedy)
    for row, text in zip(stopped[:, 5:].tolist(), alone, strict=True):
        ends = [i for i, token in enumerate(text.tolist()) if token in stop]
        kept = ends[0] + 1 if ends else new
        assert row == text[:kept].tolist() + [3] * (new - kept)
    with pytest.raises(ValueError, match="mask: expected padding on the left only"):
        model.complete(prompt, ~mask, new=2, rng=seeded(0))


def test_text_is_written_by_one_way_and_pictures_by_another():
    model = Gpt2().build(spec(12))
    with pytest.raises(ValueError, match="model: expected one of images, found one of text"):
        model.generate(2, rng=seeded(0))
    with pytest.raises(ValueError, match="model: expected one of images, found one of text"):
        model.loss({"image": torch.zeros(1, 1, 2, 2)}, rng=seeded(0))
    assert "".join(model.write("", new=5, rng=seeded(0), stop=range(99))) == ""
    assert len("".join(model.write("", new=5, rng=seeded(0)))) == 5


def test_sizes_are_the_published_and_about_equal():
    tokens = TextSpec("tokenizer", 1024, classes=50257)
    with torch.device("meta"):
        assert count(Gpt2.published().build(tokens)) == 124_439_808
        letters = TextSpec("characters", 128, tuple(chr(i) for i in range(65, 130)))
        sizes = {name: count(recipe().build(letters)) for name, recipe in RECIPES.items()}
    assert max(sizes.values()) < 1.03 * sizes["gpt2"]
    assert sizes["lstm"] > 0.97 * sizes["gpt2"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_a_file(name):
    recipe = RECIPES[name]()
    assert decode(RECIPES[name], encode(recipe), parts=PARTS) == recipe
    assert decode(TextSpec, encode(spec())) == spec()


def test_a_tokenizer_is_a_file_beside_the_weights(tmp_path):
    codec = fit_codec("bpe", CORPUS, size=280)
    model = store.create("gpt", spec_of(codec, 16))
    with pytest.raises(ValueError, match=r"its tokenizer\.json is absent"):
        model.codec.encode("she")
    model.codec.adopt(codec)
    folder = store.save(model, tmp_path / "model")
    assert (folder / "tokenizer.json").read_text() == codec.text
    again = store.load(folder)
    assert torch.equal(again.codec.encode(CORPUS), codec.encode(CORPUS))
    store.save(again, tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer.json").read_text() == codec.text
    (folder / "tokenizer.json").write_text(codec.text[:-9])
    with pytest.raises(ConfigError, match=r"model/tokenizer\.json: expected a tokenizer of the library"):
        store.load(folder)
    (folder / "tokenizer.json").write_text(fit_codec("bpe", CORPUS[:200], size=270).text)
    with pytest.raises(ConfigError, match=r"model/tokenizer\.json: expected the tokenizer of the model, hash"):
        store.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model: expected tokenizer\.json, found none"):
        store.load(folder)


def test_a_model_that_was_saved_with_its_pieces_reads_the_same_ids(tmp_path):
    codec = fit_codec("bpe", CORPUS, size=280)
    made = json.loads(codec.text)["model"]
    pieces = sorted(made["vocab"], key=made["vocab"].get)
    model = store.create("gpt", TextSpec("bpe", 16, tuple(pieces), tuple(" ".join(pair) for pair in made["merges"])))
    folder = store.save(model, tmp_path / "model")
    # As it was saved: without a file of its own.
    (folder / "tokenizer.json").unlink()
    again = store.load(folder)
    assert torch.equal(again.codec.encode(CORPUS), codec.encode(CORPUS))
    assert again.codec.decode(again.codec.encode(CORPUS)) == CORPUS


def test_how_ids_are_drawn_is_one_part_where_it_was_six_keys():
    decoder = replace(Gpt2().decoder, sampling=Sampling(0.5, 3, 0.9, 0.1, 1.2, 4))
    today = {"format": 3, "recipe": encode(replace(Gpt2(), decoder=decoder)), "spec": encode(spec())}
    flat = {**today["recipe"]["decoder"]}
    flat |= {name: value for name, value in flat.pop("sampling").items() if name != "kind"}
    before = {**today, "format": 2, "recipe": {**today["recipe"], "decoder": flat}}
    assert up_to_date(before)["recipe"] == today["recipe"]
    assert up_to_date(today) == today
    flat.pop("top_p")
    read = decode(Gpt2, up_to_date(before)["recipe"], parts=PARTS)
    assert read.decoder.sampling == replace(decoder.sampling, top_p=1)


def test_a_decoder_for_other_ids_is_named():
    recipe = replace(Gpt2(), decoder=replace(Gpt2().decoder, classes=7))
    with pytest.raises(ValueError, match=r"decoder\.classes: expected 0 or the 15 of the codec, found 7"):
        recipe.build(spec())
