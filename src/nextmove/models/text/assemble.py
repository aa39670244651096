"""Wires a language model from its parts; every recipe of this folder ends here."""

from __future__ import annotations

from dataclasses import replace

from nextmove.codecs import Text
from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, TextSpec


def assemble(spec: TextSpec, decoder: Autoregressive, *, window: int = 0) -> Generator:
    """The generator of ids (B, spec.length) of the text that `spec` describes.

    window: ids its network reads at most when it samples longer texts; 0 = all.
    """
    codec = Text(spec.unit, spec.vocabulary, spec.merges)
    if decoder.classes not in (0, codec.classes):
        raise ValueError(f"decoder.classes: expected 0 or the {codec.classes} of the codec, found {decoder.classes}")
    shape = (spec.length,)
    built = replace(decoder, classes=codec.classes).build(shape=shape, context=ContextSpec())
    generator = Generator(spec=spec, codec=codec, decoder=built, shape=shape)
    generator.sampling = {"window": window} if window else {}
    return generator
