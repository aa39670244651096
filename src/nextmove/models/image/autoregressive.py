"""Wires an image generator that makes one id after another; the autoregressive recipes end here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nextmove.codecs.palette import Palette
from nextmove.codecs.pixels import Pixels
from nextmove.codecs.vq import Vq
from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.encoders import Labels
from nextmove.models.generator import Generator, ImageSpec

LABEL_WIDTH = 64


def autoregressive_generator(
    spec: ImageSpec, decoder: Autoregressive, codec: Pixels | Palette | Vq, *, raster: bool = False
) -> Generator:
    """The generator of the codec's ids, conditioned on labels if the images have them.

    raster: the network reads ids as an image and must know its grid.
    """
    if decoder.classes not in (0, codec.classes):
        raise ValueError(f"decoder.classes: expected 0 or the {codec.classes} of the codec, found {decoder.classes}")
    encoder = Labels(spec.classes, LABEL_WIDTH) if spec.classes else None
    context = ContextSpec() if encoder is None else encoder.spec
    grid = (spec.height, spec.width, spec.channels)
    own: Any = decoder.trunk
    trunk = replace(own, grid=grid) if raster else own
    shape = (codec.length,)
    built = replace(decoder, trunk=trunk, classes=codec.classes).build(shape=shape, context=context)
    return Generator(spec=spec, codec=codec, decoder=built, shape=shape, encoder=encoder)


def pixels(spec: ImageSpec) -> Pixels:
    """One id a value, channels innermost."""
    return Pixels(height=spec.height, width=spec.width, channels=spec.channels, levels=spec.levels)
