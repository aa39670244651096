"""ImageGPT: the language model, on pixels (Chen et al. 2020).

What changed over PixelCNN: attention to every earlier pixel in place of masked windows, nothing about images built in;
colours are cut to the 512 that k-means finds, so that a pixel is one word and not three.

How it is composed: `Palette`, fitted on the data -> `Autoregressive` around `ImageTransformer`. Images of one
channel with no more levels than the palette would have colours are written with `Pixels` instead.

Deviations: dropout and averaged weights in the small size, for small data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nextmove.codecs.palette import Palette
from nextmove.codecs.pixels import Pixels
from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.autoregressive import autoregressive_generator, pixels
from nextmove.nn.imagegpt import ImageTransformer

Size = Literal["S", "M", "L"]
SIZES: dict[Size, ImageTransformer] = {
    "S": ImageTransformer(width=512, layers=24, heads=8),
    "M": ImageTransformer(width=1024, layers=36, heads=8),
    "L": ImageTransformer(width=1536, layers=48, heads=16),
}


@dataclass(frozen=True)
class ImageGpt:
    """Transformer over the colours of a palette."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=ImageTransformer(width=64, layers=2, heads=4, dropout=0.1))
    )
    colours: int = 512
    """Colours of the palette."""
    optim: Optim = Optim(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01, warmup=100, batch=32, ema=0.999)

    @classmethod
    def published(cls, size: Size = "S") -> ImageGpt:
        """iGPT-S, M or L of 32 x 32 images in 512 colours: 76.57 M, 455.16 M and 1362.25 M parameters."""
        return cls(
            decoder=Autoregressive(trunk=SIZES[size]),
            optim=Optim(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, warmup=10_000, batch=128, clip=0.0, ema=0.0),
        )

    def codec(self, spec: ImageSpec) -> Palette | Pixels:
        """How images are written."""
        if spec.channels == 1 and spec.levels <= self.colours:
            return pixels(spec)
        return Palette(height=spec.height, width=spec.width, channels=spec.channels, colours=self.colours)

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`; a palette is yet to be fitted."""
        return autoregressive_generator(spec, self.decoder, self.codec(spec))
