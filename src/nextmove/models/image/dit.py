"""DiT: diffusion with a transformer in place of the U-Net.

What changed over DDPM: the image is cut into patches that attend to each other, and time and label steer every layer
by adaptive norms whose gates start closed (Peebles & Xie 2023). What holds for language models holds again: larger is
better.

How it is composed: `Diffusion` (DDPM's linear table, noise prediction) around `Dit`; with `--decoder flow` it is a SiT.

Deviations: pixels instead of an autoencoder's latents, and no learnt variances; `published()` has the paper's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nextmove.contracts import Optim
from nextmove.decoders import Diffusion, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ancestral
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.assemble import OPTIM, assemble
from nextmove.nn import Dit
from nextmove.nn.dit import SIZES

SAMPLER = Sampler(Ancestral(), 250, Indices(), clip=1.0)
DECODER = Diffusion(trunk=Dit(), path=DiscreteVP(T=1000, schedule="linear"), sampler=SAMPLER, drop=0.1)


@dataclass(frozen=True)
class DitDiffusion:
    """Diffusion over patches of pixels."""

    decoder: Any = field(default_factory=lambda: DECODER)
    label_width: int = 128
    optim: Optim = OPTIM

    @classmethod
    def published(cls, size: Literal["S", "B", "L", "XL"] = "XL") -> DitDiffusion:
        """DiT-S/2 to XL/2 and the paper's optimiser."""
        return cls(
            decoder=replace(DECODER, trunk=Dit.sized(size)),
            label_width=SIZES[size][0],
            optim=Optim(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup=0, batch=256, clip=0.0),
        )

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator."""
        return assemble(spec, decoder=self.decoder, label_width=self.label_width)
