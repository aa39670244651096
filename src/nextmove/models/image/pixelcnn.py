"""PixelCNN: an image pixel by pixel, each given those before it through masked convolutions.

What changed over PixelRNN: convolutions of bounded reach in place of states, so that all pixels of an image are trained
at once; `PlainPixelCnn` is that (van den Oord et al. 2016a). Its stacked masks leave a blind spot of earlier pixels
that no depth reaches. `PixelCnn` is Gated PixelCNN (van den Oord et al. 2016b): a vertical and a horizontal stack
without it, multiplicative gates, and labels that condition every layer.

How it is composed: `Pixels` -> `Autoregressive` around `GatedCnn` or `MaskedCnn`.

Deviations: AdamW in place of RMSProp; dropout and averaged weights in the small sizes, for small data sets; kernels are
cropped to the rows and columns they may read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.autoregressive import autoregressive_generator, pixels
from nextmove.nn.pixelcnn import GatedCnn, MaskedCnn

SMALL = Optim(lr=6e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, batch=64, ema=0.999)


@dataclass(frozen=True)
class PixelCnn:
    """Gated PixelCNN."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=GatedCnn(width=48, layers=6, first=5, head=64, dropout=0.1))
    )
    optim: Optim = SMALL

    @classmethod
    def published(cls) -> PixelCnn:
        """Sizes of the CIFAR-10 model as its paper has them from the one before: 15 layers of 128, kernels 7 and 3."""
        return cls(
            decoder=Autoregressive(trunk=GatedCnn(width=128, layers=15, first=7, head=1024)),
            optim=Optim(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, batch=16),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`."""
        return autoregressive_generator(spec, self.decoder, pixels(spec), raster=True)


@dataclass(frozen=True)
class PlainPixelCnn:
    """PixelCNN with its blind spot."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=MaskedCnn(width=32, layers=6, first=5, head=64, dropout=0.1))
    )
    optim: Optim = SMALL

    @classmethod
    def published(cls) -> PlainPixelCnn:
        """Sizes of the CIFAR-10 model (2016a, table 1): 15 residual blocks, h = 128, 1024 channels in the head."""
        return cls(
            decoder=Autoregressive(trunk=MaskedCnn(width=128, layers=15, first=7, head=1024)),
            optim=Optim(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, batch=16),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`."""
        return autoregressive_generator(spec, self.decoder, pixels(spec), raster=True)
