"""BLIP: one model that compares, judges and writes (Li et al. 2022).

What changed over CLIP: beside two vectors that are compared, a text that is read while looking at the image tells
fine differences, and the same transformer writes what it sees.

How it is composed: `VisionTower` and `Med` -> three losses with weight 1: `Distilled` contrast, taught by momentum
copies, with a queue; matching with the negatives that the contrast finds likeliest (`decoders.matching`); and
`Autoregressive` captions with label smoothing.

Deviations: a CPU size by default, with a stem of convolutions (`nn.stem`) and a short queue; equal captions count as
right for each other (`contrast.shared`), since small sets repeat them. `published()` has none of them. Trained in one
process on whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nextmove.contracts import Optim
from nextmove.decoders.distilled import Distilled
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.blip_model import BlipModel
from nextmove.models.vision_language.model import sized
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.med import Med
from nextmove.nn.norm import LayerNorm
from nextmove.nn.stem import STEM
from nextmove.nn.vit import VisionTower


@dataclass(frozen=True)
class Blip:
    """An image tower and a text transformer of three modes."""

    CAPTIONS: ClassVar[bool] = True
    """Learns from captions, not from questions."""
    image: VisionTower = VisionTower(128, 16, 128, 4, 4, norm=LayerNorm(1e-6), stem=STEM)
    text: Med = Med(128, 3, 4)
    space: int = 64
    """Width of the space that images and texts are compared in."""
    contrast: Distilled | None = Distilled(queue=1024, ramp=500)
    """None: captions alone."""
    writes: bool = True
    reads: bool = True
    smoothing: float = 0.1
    prompt: str = ""
    """What captions begin with."""
    values: Values = "clip"
    """How pixels are scaled (`encoders.pictures.SCALES`); a tower that it begins with brings its own."""
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=200, batch=64, ema=0.999)

    @classmethod
    def published(cls, image: int = 224) -> Blip:
        """BLIP base as pretrained, of 30524 ids and texts of 512; at 384 px it is fine-tuned."""
        tower = VisionTower(image, norm=LayerNorm(1e-6), feedforward=DenseMlp(activation="gelu"))
        optim = Optim(3e-4, (0.9, 0.999), weight_decay=0.05, warmup=3000, batch=2400, clip=0.0, ema=0.0)
        return cls(tower, Med(), 256, Distilled(shared=False), optim=optim)

    def build(self, spec: PairSpec) -> BlipModel:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        return BlipModel(
            spec,
            image=sized(self.image, spec),
            text=self.text,
            reads=self.reads,
            writes=self.writes,
            space=self.space,
            distilled=self.contrast,
            smoothing=self.smoothing,
            prompt=self.prompt,
            values=self.values,
        )
