"""VQ-VAE: an image as a small grid of learnt tokens.

What changed over PixelCNN and ImageGPT: the model of the image is cut in two. A convolutional autoencoder with a
discrete middle learns what patches look like; which patches go together is left to a prior over its few ids
(`vqgan-prior`) in place of hundreds of pixels (van den Oord et al. 2017).

How it is composed: `Strided` networks around the `Averaged` codebook, judged by `Reconstruction` (mean squared error).

Deviations: restarts codes that fall out of use. The prior is a transformer where the paper has a PixelCNN. Widths and
codes that train on a CPU; `published()` has the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextmove.codecs.vq import Averaged
from nextmove.contracts import Optim
from nextmove.decoders.reconstruction import Reconstruction
from nextmove.models.generator import ImageSpec
from nextmove.models.image.tokenizer import Tokenizer
from nextmove.nn.autoencoder import Strided


@dataclass(frozen=True)
class VqVae:
    """VQ-VAE with the codebook of running means."""

    trunk: Any = field(default_factory=lambda: Strided(width=64, blocks=2))
    codebook: Averaged = Averaged(classes=64, width=16)
    judge: Reconstruction = Reconstruction(distance="mse")
    # The weights' average lags about as far behind as the codebook's, so that the two fit.
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, batch=128, ema=0.99)

    @classmethod
    def published(cls) -> VqVae:
        """Sizes and optimiser of the paper: 256 wide, two halvings, 512 codes."""
        return cls(
            trunk=Strided(width=256, blocks=2),
            codebook=Averaged(classes=512, width=64),
            optim=Optim(lr=2e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup=0, batch=128, clip=0.0, ema=0.99),
        )

    def build(self, spec: ImageSpec) -> Tokenizer:
        """The untrained tokenizer of images like `spec`."""
        return Tokenizer(spec, trunk=self.trunk, codebook=self.codebook, judge=self.judge)
