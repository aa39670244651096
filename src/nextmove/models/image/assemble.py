"""Wires an image generator that makes all pixels at once; the recipes of diffusion and flow end here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nextmove.codecs.pixels import Continuous
from nextmove.contracts import ContextSpec, Optim
from nextmove.decoders.reach import check_reach
from nextmove.encoders import Labels
from nextmove.models.generator import Generator, ImageSpec
from nextmove.nn.unet2d import UNet2d

UNET = UNet2d(channels=32, multipliers=(1, 2, 2), blocks=1, groups=8)
"""The network all of them share by default: 1.1 M parameters, for 8x8 to 32x32 images on two CPU cores."""

OPTIM = Optim(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, warmup=200, batch=128, ema=0.999)


def assemble(spec: ImageSpec, *, decoder: Any, label_width: int) -> Generator:
    """The generator of continuous pixels; without classes there is no condition, hence none dropped."""
    check_reach(decoder, Continuous.end, "pixels")
    encoder = Labels(spec.classes, label_width) if spec.classes else None
    context = ContextSpec() if encoder is None else encoder.spec
    decoder = replace(decoder, drop=0.0) if encoder is None else decoder
    shape = (spec.channels, spec.height, spec.width)
    return Generator(
        spec=spec,
        codec=Continuous(levels=spec.levels),
        decoder=decoder.build(shape=shape, context=context),
        shape=shape,
        encoder=encoder,
    )
