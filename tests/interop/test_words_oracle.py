"""Tokenizers beside those of transformers, where that is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextmove.codecs.byte_level import train_bpe
from nextmove.codecs.clip_words import clip_bpe, vocabulary
from nextmove.codecs.wordpiece import SPECIAL, wordpiece

transformers = pytest.importorskip("transformers", reason="needs transformers, which only tests compare with")

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizers"
TEXTS = json.loads((GOLDEN / "sentencepiece.json").read_text(encoding="utf-8"))["texts"]
MERGES = ["c a", "ca t</w>", "p h", "ph o", "t h", "th e</w>", "' s</w>", "w i", "1 2</w>"]


def test_clip() -> None:
    pieces = vocabulary(MERGES)
    table = {piece: i for i, piece in enumerate(pieces)}
    theirs = transformers.CLIPTokenizer(table, [tuple(merge.split(" ")) for merge in MERGES])
    ours = clip_bpe(pieces, MERGES)
    for text in (*TEXTS, "the cat's photo 12"):
        assert ours.prompt(text).tolist() == theirs(text)["input_ids"], text


def test_wordpiece() -> None:
    letters = sorted({c for text in TEXTS for c in text.lower() if c.isascii() and not c.isspace()})
    pieces = [*SPECIAL, *letters, *(f"##{c}" for c in letters), "##ing", "photo", "the"]
    theirs = transformers.BertTokenizer({piece: i for i, piece in enumerate(pieces)})
    ours = wordpiece(pieces)
    for text in (*TEXTS, "The photo is loading"):
        assert ours.prompt(text).tolist() == theirs(text)["input_ids"], text


def test_gpt2() -> None:
    model = json.loads(train_bpe("\n".join(TEXTS), 400).text)["model"]
    theirs = transformers.GPT2Tokenizer(model["vocab"], [tuple(pair) for pair in model["merges"]])
    ours = train_bpe("\n".join(TEXTS), 400)
    for text in TEXTS:
        if text and "<|" not in text:
            assert ours.prompt(text).tolist() == theirs(text)["input_ids"], text
