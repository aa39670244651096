"""CLIP: images and texts in one space (Radford et al. 2021).

What changed over a classifier: classes are texts, so that whatever can be described can be found, without training on
it. A batch is its own set of wrong answers.

How it is composed: `VisionTower` and a causal `TextEncoder` in `DualEncoder` -> `Contrastive(softmax)`: which of the
batch's texts an image has, and which image a text.

Deviations: a CPU size by default, whose patches are seen through a stem of convolutions (`nn.stem`), and equal captions
of a batch count as right for each other (`contrast.shared`), since small sets repeat them. `published()` has neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from nextmove.contracts import Optim
from nextmove.decoders.contrastive import Contrastive
from nextmove.models.vision_language.dual import Dual
from nextmove.models.vision_language.model import sized
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.dual import DualEncoder
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.stem import STEM
from nextmove.nn.text_encoder import TextEncoder
from nextmove.nn.vit import VisionTower

SMALL = DualEncoder(
    VisionTower(
        128,
        16,
        128,
        4,
        4,
        DenseMlp(activation="quick_gelu"),
        LayerNorm(),
        stem=STEM,
        patch_bias=False,
        pre_norm=True,
        normed=False,
    ),
    TextEncoder(128, 3, 4, out=128, causal=True, pool="end", feedforward=DenseMlp(activation="quick_gelu")),
)
"""For images of 128 px."""


def published(size: Literal["B/32", "B/16", "L/14", "L/14-336"]) -> DualEncoder:
    """The published sizes, by their number of heads 64 wide."""
    image, patch, width, layers, text = {
        "B/32": (224, 32, 768, 12, 512),
        "B/16": (224, 16, 768, 12, 512),
        "L/14": (224, 14, 1024, 24, 768),
        "L/14-336": (336, 14, 1024, 24, 768),
    }[size]
    quick = DenseMlp(activation="quick_gelu")
    return DualEncoder(
        VisionTower(
            image, patch, width, layers, width // 64, quick, LayerNorm(), patch_bias=False, pre_norm=True, normed=False
        ),
        TextEncoder(text, 12, text // 64, out=text, causal=True, pool="end", feedforward=quick),
    )


@dataclass(frozen=True)
class Clip:
    """Two towers and a softmax over the batch."""

    CAPTIONS: ClassVar[bool] = True
    """Learns from captions, not from questions."""
    net: DualEncoder = SMALL
    contrast: Contrastive = Contrastive("softmax", most=100.0)
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, warmup=100, batch=128, ema=0.999)

    @classmethod
    def published(cls, size: Literal["B/32", "B/16", "L/14", "L/14-336"] = "B/32") -> Clip:
        """CLIP as published, of 49408 ids and texts of 77: ViT-B/32 has 151,277,313 weights, L/14 427,616,513."""
        rate = 5e-4 if size.startswith("B") else 4e-4
        optim = Optim(rate, (0.9, 0.98), 1e-6, 0.2, warmup=2000, batch=32768, clip=0.0, ema=0.0)
        return cls(published(size), Contrastive("softmax", most=100.0, shared=False), optim)

    def build(self, spec: PairSpec) -> Dual:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        net = replace(self.net, image=sized(self.net.image, spec)).build(classes=spec.classes, length=spec.length)
        return Dual(spec, net, self.contrast)
