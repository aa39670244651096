"""Tokenizers of folders and files, in every form that models are published with, and those that do not match."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nextmove.codecs.byte_level import train_bpe
from nextmove.codecs.clip_words import vocabulary
from nextmove.codecs.special import special_tokens
from nextmove.codecs.wordpiece import SPECIAL
from nextmove.config import ConfigError
from nextmove.interop.hf.words import open_tokenizer, read_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizers"
KNOWN = json.loads((GOLDEN / "sentencepiece.json").read_text(encoding="utf-8"))


def folder(
    path: Path, name: str = "llama", config: Any = None, model: Any = None, file: str = "tokenizer.model"
) -> Path:
    path.mkdir(exist_ok=True)
    shutil.copy(GOLDEN / f"{name}.model", path / file)
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    if model is not None:
        (path / "config.json").write_text(json.dumps(model))
    return path


def test_llama_begins_texts(tmp_path: Path) -> None:
    codec = read_tokenizer(folder(tmp_path / "a"), 420)
    for text, ids in zip(KNOWN["texts"], KNOWN["llama"]["ids"], strict=True):
        assert codec.prompt(text).tolist() == [1, *ids]
    quiet = read_tokenizer(
        folder(tmp_path / "b", config={"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}), 420
    )
    assert quiet.prompt("hi").tolist() == codec.encode("hi").tolist()


def test_t5_ends_texts_and_has_sentinels(tmp_path: Path) -> None:
    plain = read_tokenizer(folder(tmp_path / "a", "t5", file="spiece.model"), 300)
    assert plain.prompt("hi").tolist() == [*plain.encode("hi").tolist(), 1]
    codec = read_tokenizer(folder(tmp_path / "b", "t5", {"tokenizer_class": "T5Tokenizer"}, file="spiece.model"), 408)
    assert (codec.id_of("<extra_id_99>"), codec.id_of("<extra_id_0>")) == (300, 399)
    siglip = read_tokenizer(
        folder(tmp_path / "c", "t5", {"tokenizer_class": "SiglipTokenizer"}, file="spiece.model"), 300
    )
    assert siglip.prompt("A Photo!").tolist() == plain.prompt("a photo").tolist()


def test_tokens_beside_the_model_keep_their_numbers(tmp_path: Path) -> None:
    added = {"added_tokens_decoder": {"420": {"content": "<image>", "special": True}, "0": {"content": "<unk>"}}}
    codec = read_tokenizer(folder(tmp_path / "a", config=added), 421)
    assert codec.id_of("<image>") == 420
    assert special_tokens(codec)["<image>"] == 420
    old = folder(tmp_path / "b")
    (old / "added_tokens.json").write_text('{"<pad>": 420}')
    assert read_tokenizer(old, 448).id_of("<pad>") == 420
    (old / "added_tokens.json").write_text('{"<pad>": 425}')
    with pytest.raises(ConfigError, match=r"tokenizer\.model: token '<pad>': expected id 425, found 420"):
        read_tokenizer(old, 448)


def test_the_number_of_ids_is_compared(tmp_path: Path) -> None:
    found = folder(tmp_path / "a")
    assert read_tokenizer(found, 448).classes == 448
    with pytest.raises(ConfigError, match=r"tokenizer\.model: expected at most the 419 ids of the model, found 420"):
        read_tokenizer(found, 419)
    with pytest.raises(ConfigError, match="expected a tokenizer of about the 1000 ids of the model, found one of 420"):
        read_tokenizer(found, 1000)
    with pytest.raises(ConfigError, match="at most the 300 ids"):
        open_tokenizer(found / "tokenizer.model", 300)


@pytest.mark.parametrize(
    ("eos", "fits"), [(2, True), ([5, 2], True), (None, True), (49407, True), (1, False), ([0, 1], False)]
)
def test_special_tokens_are_compared(tmp_path: Path, eos: Any, fits: bool) -> None:
    named = {"eos_token": "</s>", "bos_token": {"content": "<s>"}}
    found = folder(tmp_path / "a", config=named, model={"text_config": {"eos_token_id": eos, "bos_token_id": 1}})
    if fits:
        assert read_tokenizer(found, 420).id_of("</s>") == 2
        return
    with pytest.raises(ConfigError, match=r"eos_token: the model's config says id .*'</s>' of the tokenizer is 2"):
        read_tokenizer(found, 420)


def test_clip_and_gpt2_share_names_of_files(tmp_path: Path) -> None:
    merges = ["c a", "ca t</w>"]
    pieces = vocabulary(merges)
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    # What published configs of CLIP say of its tokens is wrong, and known to be.
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"bos_token_id": 0, "eos_token_id": 2}}))
    named = {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    codec = read_tokenizer(tmp_path, len(pieces))
    assert codec.prompt("Cat").tolist() == [514, 513, 515]
    gpt = json.loads(train_bpe("a cat, a cat", 260).text)["model"]
    other = tmp_path / "gpt2"
    other.mkdir()
    (other / "vocab.json").write_text(json.dumps(gpt["vocab"]))
    assert not read_tokenizer(other, 260).files()
    (other / "merges.txt").write_text("\n".join(" ".join(pair) for pair in gpt["merges"]))
    assert read_tokenizer(other, 260).text == train_bpe("a cat, a cat", 260).text


def test_wordpiece_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "cat", "Cat"]) + "\n")
    assert read_tokenizer(tmp_path, 7).prompt("Cat").tolist() == [2, 5, 3]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_tokenizer(tmp_path, 7).prompt("Cat").tolist() == [2, 6, 3]
    assert open_tokenizer(tmp_path / "vocab.txt").prompt("Cat").tolist() == [2, 5, 3]


def test_what_is_none_is_named(tmp_path: Path) -> None:
    assert not read_tokenizer(tmp_path, 9).files()
    with pytest.raises(FileNotFoundError, match=r"expected a tokenizer \(tokenizer\.json, .* found none"):
        open_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="found nothing there"):
        open_tokenizer(tmp_path / "none.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: expected a tokenizer"):
        open_tokenizer(tmp_path)
    (tmp_path / "words.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"words\.gguf"):
        open_tokenizer(tmp_path / "words.gguf")
