"""MeanFlow: an image in one network call.

What changed over flow matching: the network reads two times and learns the average velocity between them, from an
identity that holds along every path, so that one step covers the whole of it (Geng et al. 2025).

How it is composed: `MeanFlow` around the 2-D U-Net; labels, where there are any, are dropped from a tenth of the rows.

Deviations: widths that train on a CPU; no guidance within the target; half of the rows with two different times, as
between the paper's shares for ImageNet and CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextmove.contracts import Optim
from nextmove.decoders import MeanFlow
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.assemble import OPTIM, UNET, assemble


@dataclass(frozen=True)
class MeanFlowImages:
    """MeanFlow over pixels, one step."""

    decoder: Any = field(default_factory=lambda: MeanFlow(trunk=UNET, drop=0.1))
    label_width: int = 128
    optim: Optim = OPTIM

    def build(self, spec: ImageSpec) -> Generator:
        """The untrained generator."""
        return assemble(spec, decoder=self.decoder, label_width=self.label_width)
