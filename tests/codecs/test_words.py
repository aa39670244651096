"""CLIP's, BERT's and byte-level tokenizers from tables, and those that GGUF files describe."""

from __future__ import annotations

import gzip
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest

from nextmove.codecs.byte_level import bpe, train_bpe
from nextmove.codecs.clip_words import clip_bpe, read_clip, vocabulary
from nextmove.codecs.gguf_words import gguf_tokenizer
from nextmove.codecs.sentencepiece_file import USER_DEFINED, read_pieces
from nextmove.codecs.special import around, numbered_tokens, special_tokens, with_tokens
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.codecs.wordpiece import wordpiece
from nextmove.config import ConfigError

FOLDER = Path(__file__).parents[1] / "golden" / "tokenizers"
CLIP_IDS = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A diagram.": [320, 22697, 269],
    "": [],
}
"""By transformers 5.5.4 and OpenAI's own code."""
MERGES = ["c a", "ca t</w>", "p h", "' s</w>"]


def tables(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Pieces and merges of a BPE tokenizer."""
    import json

    model = json.loads(tokenizer.text)["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(pair) for pair in model["merges"]]


def test_clip_joins_within_words() -> None:
    codec = clip_bpe(vocabulary(MERGES), MERGES)
    assert codec.classes == 512 + len(MERGES) + 2
    start, end = codec.classes - 2, codec.classes - 1
    assert codec.prompt("CAT  cat\n").tolist() == [start, 513, 513, end]
    assert codec.decode(codec.encode("cat's, 12")) == "cat 's , 1 2 "
    assert codec.encode("caT'S").tolist() == [513, 515]
    assert codec.prompt("").tolist() == [start, end]
    assert codec.encode("<|endoftext|>").tolist() == [end]
    # Composed as NFC says: one letter, of two bytes.
    assert codec.encode("e\u0301").tolist() == codec.encode("\u00e9").tolist()


def test_clip_names_wrong_merges() -> None:
    with pytest.raises(ValueError, match=r"merges: expected pairs of pieces .* found 'q u'"):
        clip_bpe(vocabulary(MERGES), ["q u"])
    with pytest.raises(ValueError, match="expected a token"):
        clip_bpe(["a"], [])


def test_a_file_that_is_not_clips_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(b"plain")
    with pytest.raises(ConfigError, match=r"txt\.gz: expected a text packed by gzip"):
        read_clip(path)
    path.write_bytes(gzip.compress(b"first\na b"))
    with pytest.raises(ConfigError, match="expected 48894 merges behind a first line, found 1"):
        read_clip(path)


def published() -> Path | None:
    """CLIP's file in a package that has it; nothing of the package is imported."""
    for package in ("open-clip-torch", "clip-anytorch"):
        try:
            found = [f for f in files(package) or () if f.name == "bpe_simple_vocab_16e6.txt.gz"]
        except PackageNotFoundError:
            continue
        if found:
            return Path(str(found[0].locate()))
    return None


def test_the_published_clip_file() -> None:
    path = published()
    if path is None:
        pytest.skip("needs bpe_simple_vocab_16e6.txt.gz of open-clip-torch or clip-anytorch")
    codec = read_clip(path)
    assert (codec.classes, codec.id_of("<|startoftext|>"), codec.id_of("<|endoftext|>")) == (49408, 49406, 49407)
    for text, ids in CLIP_IDS.items():
        assert codec.prompt(text).tolist() == [49406, *ids, 49407]


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "a", ",", "\u4eba", "e"]


def test_wordpiece_takes_the_longest_pieces() -> None:
    codec = wordpiece(BERT)
    assert codec.prompt("Unaffable, \u00e9").tolist() == [2, 5, 6, 7, 9, 11, 3]
    assert codec.encode("a\u4ebaa [MASK]").tolist() == [8, 10, 8, 4]
    assert codec.encode("unaffablex" + " " + "a" * 101).tolist() == [1, 1]
    assert codec.decode([5, 6, 7, 9]) == "unaffable,"
    assert wordpiece(BERT, lowercase=False).encode("UN \u00e9").tolist() == [1, 1]
    assert wordpiece(BERT, chinese=False).encode("a\u4ebaa").tolist() == [1]
    assert codec.pad == 0


@pytest.mark.parametrize(("pieces", "said"), [(["[CLS]", "[SEP]"], "UNK"), ([*BERT, "a"], "'a' twice")])
def test_wordpiece_names_what_is_wrong(pieces: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wordpiece(pieces)


def byte_metadata(**more: Any) -> dict[str, Any]:
    pieces, merges = tables(train_bpe("how many cubes are on the table? 12 cubes, 345.", 280))
    tokens = ["<|endoftext|>", "<|im_start|>", *pieces]
    kinds = [3, 3, *[1] * len(pieces)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        **more,
    }


def test_gguf_describes_byte_pieces() -> None:
    codec = gguf_tokenizer(byte_metadata())
    assert special_tokens(codec) == {"<|endoftext|>": 0, "<|im_start|>": 1}
    assert codec.encode("<|im_start|>cubes").tolist()[0] == 1
    assert codec.decode(codec.encode(" 12  cubes\n")) == " 12  cubes\n"
    text = "cubes 123"
    gpt2 = gguf_tokenizer(byte_metadata(**{"tokenizer.ggml.pre": "gpt-2"}))
    assert len(codec.encode(text)) >= len(gpt2.encode(text))
    assert codec.prompt("cubes").tolist() == codec.encode("cubes").tolist()
    framed = gguf_tokenizer(byte_metadata(**{"tokenizer.ggml.add_bos_token": True}))
    assert framed.prompt("cubes").tolist() == [1, *codec.encode("cubes").tolist()]


@pytest.mark.parametrize("split", ["gpt2", "digits", "qwen2", "llama3"])
def test_cuts_lose_nothing(split: Any) -> None:
    pieces, merges = tables(train_bpe("12345 tables, it's\n\n  what we'll see", 300))
    codec = bpe(pieces, merges, split)
    for text in ("12345 it's  \n\n we'LL\tsee", "Gr\u00fcn \U0001f642", ""):
        assert codec.decode(codec.encode(text)) == text
    digits = {"gpt2": 1, "digits": 5, "qwen2": 5, "llama3": 2}[split]
    assert len(codec.backend.pre_tokenizer.pre_tokenize_str("12345")) == digits


def test_gguf_describes_sentencepiece() -> None:
    found = read_pieces(FOLDER / "llama.model")
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.text for piece in found.pieces],
        "tokenizer.ggml.scores": [piece.score for piece in found.pieces],
        "tokenizer.ggml.token_type": [piece.kind for piece in found.pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    import json

    known = json.loads((FOLDER / "sentencepiece.json").read_text(encoding="utf-8"))
    codec = gguf_tokenizer(metadata)
    for text, ids in zip(known["texts"], known["llama"]["ids"], strict=True):
        assert codec.prompt(text).tolist() == [1, *ids]
    with pytest.raises(ValueError, match=r"scores: expected 420 values, found 1"):
        gguf_tokenizer({**metadata, "tokenizer.ggml.scores": [0.0]})


def test_gguf_describes_wordpiece() -> None:
    told = [t if t.startswith("[") else t[2:] if t.startswith("##") else "\u2581" + t for t in BERT]
    codec = gguf_tokenizer({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": told})
    assert codec.prompt("unaffable").tolist() == [2, 5, 6, 7, 3]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tokenizer.ggml.pre": "other"}, r"tokenizer\.ggml\.pre: expected one of gpt-2, .* found 'other'"),
        ({"tokenizer.ggml.model": "rwkv"}, r"tokenizer\.ggml\.model: expected gpt2, llama or bert, found 'rwkv'"),
        ({"tokenizer.ggml.token_type": [1]}, r"token_type: expected \d+ values, found 1"),
    ],
)
def test_gguf_names_what_is_wrong(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gguf_tokenizer(byte_metadata(**more))
    with pytest.raises(ValueError, match=r"tokenizer\.ggml\.tokens: expected a value"):
        gguf_tokenizer({"tokenizer.ggml.model": "gpt2"})


def test_tokens_are_added_behind_or_at_their_numbers() -> None:
    from tokenizers import AddedToken

    codec = wordpiece(BERT)
    more = with_tokens(codec, ["<image>", "[CLS]"])
    assert (more.classes, more.id_of("<image>"), more.id_of("[CLS]")) == (13, 12, 2)
    assert more.encode("a<image>a").tolist() == [8, 12, 8]
    assert codec.classes == 12
    assert numbered_tokens(codec, {12: AddedToken("<x>"), 13: AddedToken("<y>")}).id_of("<y>") == 13
    with pytest.raises(ValueError, match="token '<y>': expected id 14, found 13"):
        numbered_tokens(codec, {12: AddedToken("<x>"), 14: AddedToken("<y>")})
    assert around(codec, before=["[SEP]"]).prompt("a").tolist() == [3, 8]


def test_user_defined_pieces_of_gguf_are_no_special_tokens() -> None:
    metadata = byte_metadata()
    kinds = list(metadata["tokenizer.ggml.token_type"])
    kinds[1] = USER_DEFINED
    codec = gguf_tokenizer({**metadata, "tokenizer.ggml.token_type": kinds})
    assert special_tokens(codec) == {"<|endoftext|>": 0}
    assert codec.encode("<|im_start|>").tolist() == [1]
