"""Flow matching: an image by following a velocity from noise, for as few steps as its paths allow.

What changed over DDPM: a straight path between noise and image and its velocity as the target (Lipman et al. 2023; Liu
et al. 2023), so that tens of steps replace a thousand, and one regression serves every solver.

How it is composed: `Flow` around the 2-D U-Net; labels, where there are any, are dropped from a tenth of the rows for
classifier-free guidance. `--recipe.decoder.pairing optimal` pairs noise and images within the batch (Tong et al. 2024);
other time laws and the trunk `Dit` are exchanged the same way. `nextmove train flow DATA --teacher runs/flow` goes on
from a flow on the pairs of noise and image that it makes itself, which straightens its paths (reflow).

Deviations: widths that train on a CPU; the midpoint rule in place of an adaptive solver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextmove.contracts import Optim
from nextmove.decoders import Flow, Sampler
from nextmove.decoders.solvers import Midpoint
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.assemble import OPTIM, UNET, assemble


@dataclass(frozen=True)
class FlowMatching:
    """Flow matching over pixels."""

    decoder: Any = field(default_factory=lambda: Flow(trunk=UNET, sampler=Sampler(Midpoint(), 25), drop=0.1))
    label_width: int = 128
    optim: Optim = OPTIM

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator."""
        return assemble(spec, decoder=self.decoder, label_width=self.label_width)
