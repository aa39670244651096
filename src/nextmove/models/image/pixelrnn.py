"""PixelRNN: an image pixel by pixel, each given those before it through two-dimensional LSTMs.

What changed over the language models: pixels are words, and the state of a pixel comes from its neighbours to the left
and above in place of one predecessor (van den Oord et al. 2016a). `PixelRnn` has Row LSTM layers, which read a row at
once from the states of the row above and see a triangle; `DiagonalPixelRnn` has Diagonal BiLSTM layers, which see all
earlier pixels at the price of as many steps as the image has diagonals.

How it is composed: `Pixels` -> `Autoregressive` around `RowLstm` or `DiagonalLstm`.

Deviations: learnt initial states are left out (they are zero), so that zeros mark the image's edge as in
PixelCNN; AdamW in place of RMSProp; dropout and averaged weights in the small sizes, for small data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.autoregressive import autoregressive_generator, pixels
from nextmove.nn.pixelrnn import DiagonalLstm, RowLstm

SMALL = Optim(lr=4e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, batch=64, ema=0.999)


@dataclass(frozen=True)
class PixelRnn:
    """PixelRNN with Row LSTM layers."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=RowLstm(width=32, layers=4, first=5, head=64, dropout=0.1))
    )
    optim: Optim = SMALL

    @classmethod
    def published(cls) -> PixelRnn:
        """Sizes of the CIFAR-10 model (table 1): 12 layers, h = 128, 1024 channels in the head."""
        return cls(
            decoder=Autoregressive(trunk=RowLstm(width=128, layers=12, first=7, head=1024)),
            optim=Optim(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0, batch=16),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`."""
        return autoregressive_generator(spec, self.decoder, pixels(spec), raster=True)


@dataclass(frozen=True)
class DiagonalPixelRnn:
    """PixelRNN with Diagonal BiLSTM layers."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=DiagonalLstm(width=32, layers=3, first=5, head=64, dropout=0.1))
    )
    optim: Optim = SMALL

    @classmethod
    def published(cls) -> DiagonalPixelRnn:
        """Sizes of the CIFAR-10 model (table 1): 12 layers, h = 128, 1024 channels in the head."""
        return cls(
            decoder=Autoregressive(trunk=DiagonalLstm(width=128, layers=12, first=7, head=1024)),
            optim=Optim(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0, batch=16),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`."""
        return autoregressive_generator(spec, self.decoder, pixels(spec), raster=True)
