"""VQ-GAN: tokens whose images are sharp.

What changed over VQ-VAE: the mean squared error, whose answer to doubt is blur, gives way to an absolute error, a
perceptual distance and a critic of patches; residual networks with attention reach f = 16, so that an image of 256
pixels is 256 tokens, few enough for a transformer (Esser et al. 2021).

How it is composed: `Residual` networks around the `Learnt` codebook (`published()`) or the `Averaged` one, judged by
`Reconstruction` with `RandomFeatures` and a `PatchCritic`; the critic enters after `judge.start` batches.

Deviations: LPIPS needs trained weights and is replaced by the distance of fixed random features. Adam's decoupled form.
The weights of the codebook's two terms are the paper's, which its code exchanged. Critic and autoencoder move in the
same step. By default the codebook is VQ-VAE's: it needs no care to stay in use on little data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextmove.codecs.vq import Averaged, Learnt
from nextmove.contracts import Optim
from nextmove.decoders.reconstruction import Reconstruction
from nextmove.models.generator import ImageSpec
from nextmove.models.image.tokenizer import Tokenizer
from nextmove.nn.autoencoder import Residual, Strided
from nextmove.nn.critic import PatchCritic
from nextmove.nn.perceptual import RandomFeatures


@dataclass(frozen=True)
class VqGan:
    """VQ-GAN, the tokenizer; its prior is `vqgan-prior`."""

    trunk: Any = field(default_factory=lambda: Strided(width=64, blocks=2))
    codebook: Averaged | Learnt = Averaged(classes=64, width=16)
    judge: Reconstruction = field(
        default_factory=lambda: Reconstruction(
            distance="l1", perceptual=RandomFeatures((16, 32, 64)), critic=PatchCritic(width=32), start=1000
        )
    )
    # The weights' average lags about as far behind as the codebook's, so that the two fit.
    optim: Optim = Optim(lr=1e-3, betas=(0.5, 0.9), weight_decay=0.0, batch=64, clip=0.0, ema=0.99)

    @classmethod
    def published(cls) -> VqGan:
        """Sizes and optimiser of the ImageNet model: f = 16, 1024 codes, 72.1 M parameters and 2.8 M of the critic."""
        return cls(
            trunk=Residual(),
            codebook=Learnt(classes=1024, width=256),
            judge=Reconstruction(distance="l1", perceptual=RandomFeatures(), critic=PatchCritic(), start=250_001),
            # 4.5e-6 for each image of the batch.
            optim=Optim(lr=5.4e-5, betas=(0.5, 0.9), weight_decay=0.0, warmup=0, batch=12, clip=0.0, ema=0.0),
        )

    def build(self, spec: ImageSpec) -> Tokenizer:
        """The untrained tokenizer of images like `spec`."""
        return Tokenizer(spec, trunk=self.trunk, codebook=self.codebook, judge=self.judge)
