"""Wires a language model from its parts; every recipe of this folder ends here."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from nextmove.codecs import Text
from nextmove.codecs.byte_level import bpe, train_bpe
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, TextSpec


def assemble(spec: TextSpec, decoder: Autoregressive, *, window: int = 0) -> Generator:
    """The generator of ids (B, spec.length) of the text that `spec` describes.

    window: ids its network reads at most when it samples longer texts; 0 = all.
    """
    codec = codec_of(spec)
    if decoder.classes not in (0, codec.classes):
        raise ValueError(f"decoder.classes: expected 0 or the {codec.classes} of the codec, found {decoder.classes}")
    shape = (spec.length,)
    built = replace(decoder, classes=codec.classes).build(shape=shape, context=ContextSpec())
    generator = Generator(spec=spec, codec=codec, decoder=built, shape=shape)
    built.window = window
    return generator


def fit_codec(unit: Literal["bytes", "characters", "bpe"], corpus: str, *, size: int = 1024) -> Text | Tokenizer:
    """A codec into bytes, characters, or `size` pieces of BPE fitted on the corpus; raises ValueError for no text."""
    return train_bpe(corpus, size) if unit == "bpe" else Text.fit(unit, corpus)


def spec_of(codec: Text | Tokenizer, length: int) -> TextSpec:
    """The spec of windows of `length` ids; what is built from it has no tokenizer until it adopts the codec's."""
    if isinstance(codec, Tokenizer):
        return TextSpec("tokenizer", length, classes=codec.classes, tokenizer=codec.hash)
    return TextSpec(codec.unit, length, codec.vocabulary)


def codec_of(spec: TextSpec) -> Text | Tokenizer:
    """The codec of a spec; that of a tokenizer knows its number of ids alone until its file is read or adopted."""
    if spec.unit == "tokenizer":
        return Tokenizer.absent(spec.classes, spec.tokenizer)
    if spec.unit == "bpe":
        return bpe(spec.vocabulary, spec.merges)
    return Text(spec.unit, spec.vocabulary)
