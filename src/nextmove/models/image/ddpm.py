"""DDPM: an image by undoing noise, a little at a time.

What changed over the GAN: no critic and no game; one network learns, by plain regression, what noise was added to an
image, and a thousand such steps turn noise into an image (Ho et al. 2020).

How it is composed: `Diffusion` (linear table of 1000 steps, noise prediction, ancestral sampling, clip at 1) around the
2-D U-Net; labels, where there are any, are dropped from a tenth of the rows for classifier-free guidance. `cosine()` is
the later table with v-prediction (Nichol & Dhariwal 2021; Salimans & Ho 2022). DDIM (Song et al. 2021) is the same
network with another sampler: `nextmove generate RUN --sampler ddim --steps 50`.

Deviations: widths that train on a CPU (`published()` has the paper's), 250 of the 1000 steps in sampling, the
posterior's variance instead of beta, and no horizontal flips, which digits do not survive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nextmove.contracts import Optim
from nextmove.decoders import Diffusion, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ancestral
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.assemble import OPTIM, UNET, assemble
from nextmove.nn import UNet2d

LINEAR = DiscreteVP(T=1000, schedule="linear")
DECODER = Diffusion(trunk=UNET, path=LINEAR, sampler=Sampler(Ancestral(), 250, Indices(), clip=1.0), drop=0.1)


@dataclass(frozen=True)
class Ddpm:
    """Denoising diffusion over pixels."""

    decoder: Any = field(default_factory=lambda: DECODER)
    label_width: int = 128
    optim: Optim = OPTIM

    @classmethod
    def cosine(cls) -> Ddpm:
        """The cosine table with v-prediction."""
        return cls(decoder=replace(DECODER, path=DiscreteVP(T=1000), target="v"))

    @classmethod
    def published(cls) -> Ddpm:
        """Sizes and optimiser of the paper's CIFAR-10 model (35.7 M parameters)."""
        sampler = Sampler(Ancestral("large"), 1000, Indices(), clip=1.0)
        return cls(
            decoder=Diffusion(trunk=UNet2d(), path=LINEAR, sampler=sampler),
            optim=Optim(lr=2e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup=5000, batch=128),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator."""
        return assemble(spec, decoder=self.decoder, label_width=self.label_width)
