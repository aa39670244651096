"""SigLIP: every pair of a batch is a question of its own (Zhai et al. 2023).

What changed over CLIP: a sigmoid of each pair in place of a softmax over the batch, so that the loss of a pair depends
on no other, and small batches serve as well; a bias that starts low, since most pairs do not belong together: at the
log odds that one of a batch does, of which the published -10 is that of 22,000.

How it is composed: `VisionTower` with attention pooling and a `TextEncoder` that reads both ways in `DualEncoder` ->
`Contrastive(sigmoid)`.

Deviations: a CPU size by default; in it patches are seen through a stem of convolutions (`nn.stem`), and the text tower
is told of padding and pools its tokens' mean, where the published one reads all 64 places and pools at the last; and
equal captions of a batch count as right for each other (`contrast.shared`). `published()` has none of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

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
    VisionTower(128, 16, 128, 4, 4, DenseMlp(), LayerNorm(1e-6), stem=STEM, class_token=False, pool="attention"),
    TextEncoder(128, 3, 4, out=128, pool="mean", norm=LayerNorm(1e-6), out_bias=True),
    project=False,
    bias=True,
    scale=math.log(10),
    bias_start=None,
)
"""For images of 128 px."""
BASE = DualEncoder(
    VisionTower(norm=LayerNorm(1e-6), feedforward=DenseMlp(), class_token=False, pool="attention"),
    TextEncoder(768, 12, 12, out=768, pool="last", norm=LayerNorm(1e-6), out_bias=True),
    project=False,
    bias=True,
    scale=math.log(10),
)
"""SigLIP base, patches of 16, 224 px; of 32000 ids, texts of 64."""


@dataclass(frozen=True)
class Siglip:
    """Two towers and a sigmoid for each pair."""

    CAPTIONS: ClassVar[bool] = True
    """Learns from captions, not from questions."""
    net: DualEncoder = SMALL
    contrast: Contrastive = Contrastive("sigmoid")
    fixed: bool = False
    """Whether texts are filled up to one length and the tower reads the padding too."""
    optim: Optim = Optim(lr=3e-4, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1, warmup=200, batch=128, ema=0.999)

    @classmethod
    def published(cls) -> Siglip:
        """SigLIP base at 224 px, of 32000 ids and texts of 64: 203,155,970 weights."""
        optim = Optim(1e-3, (0.9, 0.95), 1e-8, 1e-4, warmup=20_000, batch=32_768, clip=1.0, ema=0.0)
        return cls(BASE, Contrastive("sigmoid", shared=False), True, optim)

    def build(self, spec: PairSpec) -> Dual:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        # Where `net` names no start, the log odds that a pair of a batch belongs together.
        start = self.net.bias_start
        start = -math.log(max(1, self.optim.batch - 1)) if start is None else start
        net = replace(self.net, image=sized(self.net.image, spec), bias_start=start)
        built = net.build(classes=spec.classes, length=spec.length)
        return Dual(spec, built, self.contrast, values="symmetric", fixed=self.fixed, mask=not self.fixed)
