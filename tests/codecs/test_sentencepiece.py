"""Models of SentencePiece: ids and texts are those of the library itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nextmove.codecs.sentencepiece import sentencepiece
from nextmove.codecs.sentencepiece_file import NORMAL, USER_DEFINED, parse_pieces, read_pieces
from nextmove.config import ConfigError

FOLDER = Path(__file__).parents[1] / "golden" / "tokenizers"
KNOWN = json.loads((FOLDER / "sentencepiece.json").read_text(encoding="utf-8"))
NAMES = ("llama", "gemma", "t5")
"""BPE with bytes and a blank in front; BPE with bytes, pieces of the user and none; unigram with NFKC."""


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_the_library(name: str) -> None:
    codec = sentencepiece(read_pieces(FOLDER / f"{name}.model"), before=False, behind=False)
    for text, ids in zip(KNOWN["texts"], KNOWN[name]["ids"], strict=True):
        assert codec.encode(text).tolist() == ids, text


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_those_of_the_library(name: str) -> None:
    codec = sentencepiece(read_pieces(FOLDER / f"{name}.model"), before=False, behind=False)
    for ids, text in zip(KNOWN[name]["ids"], KNOWN[name]["decoded"], strict=True):
        # The library shows what it does not know as " ⁇ ".
        assert codec.decode(ids) == text.replace(" \u2047 ", "<unk>")


def test_what_a_file_says() -> None:
    llama, gemma, t5 = (read_pieces(FOLDER / f"{name}.model") for name in NAMES)
    assert (llama.kind, llama.prefix, llama.trim, llama.byte_fallback) == ("bpe", True, False, True)
    assert llama.ids == {"unk": 0, "bos": 1, "eos": 2}
    assert (gemma.prefix, gemma.ids) == (False, {"pad": 0, "eos": 1, "bos": 2, "unk": 3})
    assert {piece.text for piece in gemma.pieces if piece.kind == USER_DEFINED} == {"<sym>", "\u2581" * 2, "\u2581" * 3}
    assert (t5.kind, t5.trim, t5.byte_fallback) == ("unigram", True, False)
    assert len(t5.charsmap) > 1000


def test_tokens_around_and_behind() -> None:
    llama, t5 = read_pieces(FOLDER / "llama.model"), read_pieces(FOLDER / "t5.model")
    plain = sentencepiece(llama, before=False, behind=False).encode("hi").tolist()
    assert sentencepiece(llama, before=True, behind=False).prompt("hi").tolist() == [1, *plain]
    ended = sentencepiece(t5, before=False, behind=True, more=["<extra_id_1>", "<extra_id_0>"])
    assert ended.prompt("hi")[-1] == t5.ids["eos"]
    assert ended.classes == len(t5.pieces) + 2
    assert ended.id_of("<extra_id_0>") == len(t5.pieces) + 1
    with pytest.raises(ValueError, match="expected an id of bos"):
        sentencepiece(t5, before=True, behind=False)


def test_a_blank_in_front_comes_once_if_asked() -> None:
    codec = sentencepiece(read_pieces(FOLDER / "llama.model"), before=False, behind=False, once=True)
    often = sentencepiece(read_pieces(FOLDER / "llama.model"), before=False, behind=False)
    assert codec.encode("a b").tolist() == often.encode("a b").tolist()
    assert [c.decode(c.encode("a</s>b")) for c in (codec, often)] == ["a</s>b", "a</s> b"]


def test_letters_small_and_no_punctuation() -> None:
    t5 = read_pieces(FOLDER / "t5.model")
    plain, codec = (sentencepiece(t5, before=False, behind=True, canonical=c) for c in (False, True))
    assert codec.encode(" A  Photo, of (it)!").tolist() == plain.encode("a photo of it").tolist()


def test_pieces_with_blanks_of_the_user_are_refused_by_name() -> None:
    gemma = replace(read_pieces(FOLDER / "gemma.model"), prefix=True)
    with pytest.raises(ValueError, match="expected no blank in the pieces that the user defined, found '\u2581\u2581'"):
        sentencepiece(gemma, before=False, behind=False)


@pytest.mark.parametrize("content", [b"", b"\x0a\xff", b"not a model", b"\x0a\x02\x08\x01"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.model: expected a model of SentencePiece"):
        read_pieces(tmp_path / "tokenizer.model")


def test_a_file_that_is_cut_off_is_no_model() -> None:
    whole = (FOLDER / "llama.model").read_bytes()
    with pytest.raises(ValueError, match="its end inside"):
        parse_pieces(whole[:1001])


def test_models_of_words_are_refused() -> None:
    piece = b"\x0a\x05\x0a\x01a\x18" + bytes([NORMAL])
    assert parse_pieces(piece).pieces[0].text == "a"
    with pytest.raises(ValueError, match="words or characters"):
        parse_pieces(piece + b"\x12\x02\x18\x03")
