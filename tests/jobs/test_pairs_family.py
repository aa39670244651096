"""The training of models of images and texts: rows of a folder, a tokenizer, the house's loop."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nextmove import store
from nextmove.codecs.byte_level import CAPTION_TOKENS, train_captions
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import Optim
from nextmove.data import DataError
from nextmove.jobs.fit import fit
from nextmove.jobs.tasks import FAMILIES
from nextmove.jobs.tasks.asked import Asked
from nextmove.jobs.tasks.pairs import Options, task
from nextmove.models.model import Model
from nextmove.models.vision_language.blip import Blip
from nextmove.models.vision_language.clip import Clip
from nextmove.models.vision_language.llava import Llava, llama
from nextmove.models.vision_language.siglip import Siglip
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.med import Med
from nextmove.nn.prefix import Prefix
from nextmove.nn.text_encoder import TextEncoder
from nextmove.nn.vit import VisionTower
from nextmove.training import TrainConfig

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "orange", "purple", "brown", "gray")


class Namer(Model):
    """Which of the first ids a text holds, from the mean colour of its image."""

    def __init__(self, spec: PairSpec) -> None:
        super().__init__()
        self.codec = Tokenizer.absent(spec.classes, spec.tokenizer)
        self.map = nn.Linear(3, spec.classes)
        self.seen: list[str] = []

    def loss(self, batch: dict[str, Any], *, rng: Any) -> dict[str, Tensor]:
        self.seen += batch["text"]
        x = self.map(batch["images"].float().mean((1, 2, 3)) / 255)
        last = torch.tensor([self.codec.encode(text)[-1] for text in batch["text"]])
        return {"loss": nn.functional.cross_entropy(x, last)}


@dataclass(frozen=True)
class Naming:
    """Its recipe."""

    optim: Optim = Optim(batch=4, warmup=1)

    def build(self, spec: PairSpec) -> Namer:
        return Namer(spec)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for colour in COLOURS:
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
        split = "held-out" if colour == "gray" else "train"
        rows.append({"image": f"{colour}.png", "text": f"a {colour} square", "split": split})
        rows.append({"image": f"{colour}.png", "question": "Which colour?", "answer": colour, "split": split})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_a_model_trains_on_what_is_not_held_out(folder: Path, tmp_path: Path) -> None:
    made = task(Asked("clip", str(folder), Naming(), holdout=0.2), Options(side=8, vocabulary=300))
    assert len(made.source) == 16  # nine images of two rows, a fifth of them for the validation loss
    assert sum(len(batch["text"]) for batch in made.held) == 2
    assert made.facts["kinds"] == {"caption": 8, "question": 8}
    assert made.facts["content"].keys() == {"features", "trained", "held"}
    model = fit(made, tmp_path / "run", TrainConfig(steps=6, progress="off"))
    assert model.facts["steps"] == 6
    assert not any("gray" in text for text in model.seen)
    assert (tmp_path / "run" / "model" / "tokenizer.json").is_file()
    assert model.facts["content"] == made.facts["content"]


def test_only_the_kinds_that_are_asked_for_are_learned(folder: Path) -> None:
    made = task(Asked("clip", str(folder), Naming(), holdout=0.2), Options(side=8, vocabulary=300, kinds=("question",)))
    assert made.facts["kinds"] == {"question": 8}
    assert made.facts["only"] == ["question"]
    assert all(row.prompt for row in made.source.rows)
    with pytest.raises(DataError, match=r"kinds: expected some of caption \(10\), question \(10\), found 'colour'"):
        task(Asked("clip", str(folder), Naming()), Options(side=8, vocabulary=300, kinds=("question", "colour")))


def test_the_family_is_known() -> None:
    assert FAMILIES["vision-language"].options is Options


def test_texts_that_are_too_long_are_counted(folder: Path) -> None:
    with pytest.raises(DataError, match=r"20 of 20|of 18 texts have more than the 4 ids of --length; the longest has"):
        task(Asked("clip", str(folder), Naming()), Options(side=8, vocabulary=300, length=4))


@pytest.mark.parametrize("name", ["bytes", "file"])
def test_other_tokenizers(folder: Path, tmp_path: Path, name: str) -> None:
    if name == "file":
        name = str(tmp_path / "own.json")
        Path(name).write_text(train_captions(["some words"], 300).text)
    made = task(Asked("clip", str(folder), Naming()), Options(side=8, tokenizer=name))
    assert made.model.codec.decode(made.model.codec.encode("a red square")) == "a red square"


def test_a_tokenizer_of_captions_begins_and_ends_texts() -> None:
    codec = train_captions(["put the red cube", "put the blue cube"], 400)
    ids = codec.prompt("put the red cube").tolist()
    assert (ids[0], ids[-1]) == (codec.id_of("<s>"), codec.id_of("</s>"))
    assert [codec.id_of(token) for token in CAPTION_TOKENS] == [*range(len(CAPTION_TOKENS))]
    assert codec.pad == 0
    assert len(ids) == 6  # each word is one piece
    for text in ("put the red cube", "Grün & <neu>  two\nlines", "put<image>the"):
        assert codec.decode(codec.encode(text)) == text
    assert codec.id_of("<image>") in codec.encode("put<image>the")
    assert codec.text == train_captions(["put the red cube", "put the blue cube"], 400).text
    with pytest.raises(ValueError, match="size: expected at least"):
        train_captions(["a"], 256)


def test_a_saved_model_has_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    made = task(Asked("clip", str(folder), Naming()), Options(side=8, vocabulary=300))
    store.save(made.model, tmp_path / "model")
    other = Namer(PairSpec(8, 8, made.model.codec.classes, 64, made.model.codec.hash))
    other.codec.read_files(tmp_path / "model")
    assert other.codec.text == made.model.codec.text


@pytest.mark.parametrize("system", ["clip", "siglip", "blip"])
def test_systems_that_learn_from_captions_leave_questions_out(
    folder: Path, system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = task(Asked(system, str(folder), holdout=0.2), Options(side=16, vocabulary=300))
    assert "9 captions of 18 rows are learned from" in capsys.readouterr().out
    assert made.facts["kinds"] == {"caption": 8}
    terms = made.model.train().loss(made.source.batch([0, 1, 2, 3]), rng=torch.Generator())
    assert all(bool(term.isfinite()) for term in terms.values())
    lines = [line for line in (folder / "captions.jsonl").read_text().splitlines() if "question" in line]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="expected captions to learn from, found 9 questions and no caption"):
        task(Asked(system, str(folder)), Options(side=16))


@pytest.mark.parametrize(("system", "judged"), [("clip", False), ("siglip", False), ("blip", True)])
def test_one_pair_alone_is_no_validation_loss_of_what_compares(
    folder: Path, system: str, judged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made = task(Asked(system, str(folder), holdout=0.12), Options(side=16, vocabulary=300))
    assert bool(list(made.held or ())) == judged
    said = "no validation loss: what is held out for it says one thing alone" in capsys.readouterr().out
    assert said != judged
    assert list(task(Asked(system, str(folder), holdout=0.3), Options(side=16, vocabulary=300)).held)


def test_rows_of_an_image_come_together(folder: Path, tmp_path: Path) -> None:
    made = task(Asked("clip", str(folder), Naming(), holdout=0.2), Options(side=8, vocabulary=300, together=2))
    assert len(made.source) == 8
    batch = made.source.batch([3, 0])
    assert len(batch["text"]) == 4
    assert batch["image_ids"][::2].tolist() == batch["image_ids"][1::2].tolist()
    every = made.source.batch(range(8))
    assert sorted(every["text"]) == sorted(row.text for row in made.source.pairs.rows)  # type: ignore[attr-defined]
    sizes, own = [], made.source.batch
    made.source.batch = lambda rows: sizes.append(len((b := own(rows))["text"])) or b  # type: ignore
    model = fit(made, tmp_path / "run", TrainConfig(steps=3, progress="off"))
    assert set(sizes) == {Naming().optim.batch}
    assert model.facts["together"] == 2
    with pytest.raises(DataError, match="together: expected a divisor of the 4 rows of a batch, found 3"):
        task(Asked("clip", str(folder), Naming()), Options(side=8, vocabulary=300, together=3))


@pytest.mark.parametrize("system", ["siglip", "blip"])
def test_a_reader_begins_with_the_tower_of_a_trained_model(folder: Path, tmp_path: Path, system: str) -> None:
    codec = train_captions([f"a {colour} square" for colour in COLOURS], 300)
    spec = PairSpec(8, 8, codec.classes, 16, codec.hash)
    other = store.create(system, spec, small(system))
    other.codec.adopt(codec)
    store.save(other, tmp_path / "sighted")
    sight = replace(Llava().tower, image=8, patch=4, width=16, layers=1, heads=2, stem=())
    recipe = replace(Llava(), tower=sight, net=Prefix(llama(16, 1, 2, 24)))
    made = task(
        Asked("llava", str(folder), recipe, start={"tower": tmp_path / "sighted"}), Options(side=8, vocabulary=300)
    )
    tower = other.net.image if system == "siglip" else other.image
    images = torch.rand(2, 1, 8, 8, 3)
    model = made.model.eval()
    assert model.tower.config.layer == -2
    assert "tower" in made.facts["start"]
    torch.testing.assert_close(model.pixels(images), other.pixels(images))
    pixels = model.pixels(images)
    torch.testing.assert_close(model.tower(pixels), tower.stream.blocks[0](tower.embedded(pixels))[0])
    assert made.model.card.recipe.values == {"siglip": "symmetric", "blip": "clip"}[system]
    with pytest.raises(ConfigError, match=r"--from tower=.*: Naming has no image tower to begin with"):
        task(Asked("clip", str(folder), Naming(), start={"tower": tmp_path / "sighted"}), Options(side=8))


def test_blip_begins_with_a_trained_tower_and_so_do_its_momentum_copies(folder: Path, tmp_path: Path) -> None:
    codec = train_captions([f"a {colour} square" for colour in COLOURS], 300)
    tower = replace(Clip().net.image, image=8, patch=4, width=16, layers=2, heads=2, stem=())
    net = replace(Clip().net, image=tower, text=TextEncoder(16, 1, 2, out=16, causal=True, pool="end"))
    other = store.create("clip", PairSpec(8, 8, codec.classes, 16, codec.hash), replace(Clip(), net=net))
    other.codec.adopt(codec)
    store.save(other, tmp_path / "sighted")
    made = task(
        Asked("blip", str(folder), small("blip"), start={"tower": tmp_path / "sighted"}),
        Options(side=8, vocabulary=300),
    )
    model = made.model.eval()
    assert "tower" in made.facts["start"]
    pixels = other.pixels(torch.rand(2, 1, 8, 8, 3))
    torch.testing.assert_close(model.image(pixels), other.net.image(pixels))
    torch.testing.assert_close(model.contrast.follower.copies["image"](pixels), model.image(pixels))


def small(system: str) -> Any:
    tower = VisionTower(8, 4, 16, 2, 2, class_token=system == "blip", pool="class" if system == "blip" else "attention")
    if system == "blip":
        return replace(Blip(), image=tower, text=Med(16, 1, 2), space=8)
    return replace(Siglip(), net=replace(Siglip().net, image=tower, text=TextEncoder(16, 1, 2, out=16, pool="mean")))


def test_images_have_the_size_that_the_tower_is_for(folder: Path) -> None:
    tower = replace(Blip().image, image=16, patch=8, width=16, layers=1, heads=2, stem=(4,))
    recipe = replace(Blip(), image=tower, text=Med(16, 1, 2), space=8)
    made = task(Asked("blip", str(folder), recipe), Options(vocabulary=300))
    assert (made.model.spec.height, made.model.spec.width) == (16, 16)
    assert made.source.batch([0])["images"].shape[-3:] == (16, 16, 3)
    with pytest.raises(ConfigError, match="side: expected at least 1 px, since no tower of Naming has a size"):
        task(Asked("clip", str(folder), Naming()), Options(vocabulary=300))


@pytest.mark.parametrize("batch", [2, 32])
def test_siglip_starts_at_the_odds_of_a_pair_of_its_batch(folder: Path, batch: int) -> None:
    recipe = replace(small("siglip"), optim=replace(Siglip().optim, batch=batch))
    model: Any = task(Asked("siglip", str(folder), recipe), Options(side=8, vocabulary=300)).model
    assert torch.sigmoid(model.net.bias).item() == pytest.approx(1 / batch)
    recipe = replace(recipe, net=replace(recipe.net, bias_start=-5.0))
    said: Any = task(Asked("siglip", str(folder), recipe), Options(side=8, vocabulary=300)).model
    assert said.net.bias.item() == -5
    assert Siglip.published().net.bias_start == -10
    with pytest.raises(ValueError, match="bias_start: expected a number"):
        Siglip().net.build(classes=300, length=8)
