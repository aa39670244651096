"""Searching folders and captioning images: the index that is kept, what is refused, folders of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN
from tests.models.tiny_blip import COLOURS, TINY, tiny, trained

from nextmove import jobs, store
from nextmove.cli.main import main
from nextmove.codecs.byte_level import train_captions
from nextmove.config import ConfigError
from nextmove.data import DataError
from nextmove.jobs.sighted import load_sighted
from nextmove.models.vision_language.siglip import Siglip
from nextmove.models.vision_language.spec import PairSpec


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store.save(trained(), tmp_path_factory.mktemp("blip"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    (place / "inner").mkdir(parents=True)
    for name, rgb in COLOURS.items():
        Image.new("RGB", (20, 20), rgb).save(place / "inner" / f"{name}.png")
    return place


def test_a_search_finds_what_the_text_says(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(model), str(folder), "a blue square", "--n", "2", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "4 images, 4 of them looked at now" in printed
    said = json.loads((tmp_path / "out" / "search.json").read_text())
    assert said["found"][0]["image"] == "inner/blue.png"
    assert len(said["found"]) == 2
    assert said["commands"][0].startswith("nextmove search")
    page = (tmp_path / "out" / "search.html").read_text()
    assert "a blue square" in page
    assert page.count("data:image/png") == 2
    with Image.open(tmp_path / "out" / "search.png") as grid:
        assert grid.mode == "RGB"
    # The best fits better than the second by the model's own count.
    assert said["found"][0]["score"] > said["found"][1]["score"]


def test_only_new_and_changed_images_are_looked_at_again(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def looked(text: str) -> tuple[str, str]:
        found = jobs.search(model, folder, text, n=1, out=tmp_path / "out")
        return str(found[0]["image"]), capsys.readouterr().out

    assert "4 images, 4 of them" in looked("a red square")[1]
    assert "4 images, 0 of them" in looked("a red square")[1]
    Image.new("RGB", (20, 20), COLOURS["red"]).save(folder / "more.png")
    Image.new("RGB", (20, 20), COLOURS["green"]).save(folder / "inner" / "white.png")
    best, printed = looked("a white square")
    # The new file shows what is known already; of the changed one so is its content.
    assert "5 images, " in printed
    assert best != "inner/white.png"
    (folder / "inner" / "blue.png").unlink()
    assert "4 images, 0 of them" in looked("a red square")[1]


def test_an_index_of_another_model_is_refused(model: Path, folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.safetensors"
    jobs.search(model, folder, "a red square", out=tmp_path / "out", index=index)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = store.save(tiny(), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"index.safetensors: expected an index by this model, hash \w+, found one"):
        jobs.search(other, folder, "a red square", out=tmp_path / "out", index=index)
    jobs.search(other, folder, "a red square", out=tmp_path / "out")
    index.write_bytes(b"no index")
    with pytest.raises(ConfigError, match=r"index.safetensors: expected an index of images, found another file"):
        jobs.search(model, folder, "a red square", out=tmp_path / "out", index=index)


def test_captions(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "inner" / f"{name}.png") for name in ("white", "red")]
    assert main(["caption", str(model), *files]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{files[0]}: a white square",
        f"{files[1]}: a red square",
    ]
    assert jobs.caption(model, (files[1],), beams=1) == ["a red square"]


def test_what_cannot_be_done_is_said(model: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken.png: expected an image"):
        jobs.caption(model, (folder / "broken.png",))
    with pytest.raises(DataError, match="expected a folder of images, found none"):
        jobs.search(model, tmp_path / "nothing", "a", out=tmp_path / "out")
    codec = train_captions(["a red square"], 280)
    dual = store.create("siglip", PairSpec(16, 16, codec.classes, 12, codec.hash), Siglip())
    dual.codec.adopt(codec)
    store.save(dual, tmp_path / "siglip")
    with pytest.raises(ConfigError, match=r"one that writes captions, found nextmove \(siglip\), which does not"):
        jobs.caption(tmp_path / "siglip", (folder / "inner" / "red.png",))
    found = jobs.search(tmp_path / "siglip", folder, "a red square", out=tmp_path / "out")
    assert len(found) == 4


def test_files_that_are_no_images_are_passed_over(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    found = jobs.search(model, folder, "a red square", out=tmp_path / "out")
    assert len(found) == 4
    assert "1 files are passed over, such as:" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["clip", "siglip", "blip_retrieval", "blip_caption"])
def test_folders_of_transformers_need_their_tokenizer_only(case: str, folder: Path, tmp_path: Path) -> None:
    place = materialise(GOLDEN / case, tmp_path / "hf")
    with pytest.raises(ConfigError, match="tokenizer"):
        load_sighted(place)
    words = ["[PAD]", "[unused]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "blue"]
    config = json.loads((place / "config.json").read_text())["text_config"]
    ends = {config.get("eos_token_id"), config.get("sep_token_id"), config.get("bos_token_id")} - {None}
    vocabulary = {name: i for i, name in enumerate(words)}
    vocabulary |= {f"<{i}>": i for i in range(len(words), config["vocab_size"])}
    last = max(ends)
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    text = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    text |= {"pre_tokenizer": {"type": "Whitespace"}, "decoder": None, "model": model}
    name = next(token for token, i in vocabulary.items() if i == last)
    piece = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": name, "type_id": 0}}]
    special = {name: {"id": name, "ids": [last], "tokens": [name]}}
    text["post_processor"] = {"type": "TemplateProcessing", "single": piece, "pair": piece, "special_tokens": special}
    (place / "tokenizer.json").write_text(json.dumps(text))
    if case == "blip_caption":
        assert len(jobs.caption(place, (folder / "inner" / "red.png",), beams=2, length=4)) == 1
    else:
        found = jobs.search(place, folder, "a red", out=tmp_path / "out")
        assert len(found) == 4
        assert all(-1 <= one["score"] <= 1.000001 for one in found)


def test_the_tiny_recipe_is_what_was_trained() -> None:
    assert trained().card is not None
    assert trained().card.recipe == TINY
