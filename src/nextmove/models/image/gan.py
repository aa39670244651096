"""GAN: a whole image in one call, against a critic.

What changed over the autoregressive models: no likelihood and no order of pixels; a network makes the image from
noise at once, and a second one, which learns to tell its images from the data, is its loss (Goodfellow et al. 2014).
The networks are DCGAN's (Radford et al. 2016).

How it is composed: `Continuous` pixels -> `Adversarial` around `Dcgan` and `DcganCritic`.

Deviations: one step moves both players (same gradients as two passes, both before either has moved); what is sampled
from is an average of the weights; on small data sets the critic sees some of the data and samples moved at random by a
pixel against learning the set by heart (Zhao et al. 2020; some, as moves of all can leak, Karras et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.codecs.pixels import Continuous
from nextmove.contracts import ContextSpec, Optim
from nextmove.decoders.adversarial import Adversarial, Translate
from nextmove.models.generator import Generator, ImageSpec
from nextmove.nn.critic import DcganCritic
from nextmove.nn.dcgan import Dcgan


@dataclass(frozen=True)
class Gan:
    """DCGAN."""

    decoder: Adversarial = field(
        default_factory=lambda: Adversarial(
            generator=Dcgan(width=64),
            critic=DcganCritic(width=64),
            latent=64,
            augment=Translate(1, share=0.4),
        )
    )
    optim: Optim = Optim(lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, warmup=0, batch=64, clip=0.0, ema=0.999)

    @classmethod
    def published(cls) -> Gan:
        """Sizes and optimiser of the authors' code for 64 x 64 images: 3.58 M and 2.77 M parameters."""
        return cls(
            decoder=Adversarial(generator=Dcgan(width=64), critic=DcganCritic(width=64), latent=100),
            optim=Optim(lr=2e-4, betas=(0.5, 0.999), weight_decay=0.0, warmup=0, batch=128, clip=0.0, ema=0.999),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator of images like `spec`; raises ValueError where they have labels, which it ignores."""
        if spec.classes:
            raise ValueError(f"spec.classes: a GAN is not conditioned on labels, expected 0, found {spec.classes}")
        shape = (spec.channels, spec.height, spec.width)
        decoder = self.decoder.build(shape=shape, context=ContextSpec())
        return Generator(spec=spec, codec=Continuous(levels=spec.levels), decoder=decoder, shape=shape)
