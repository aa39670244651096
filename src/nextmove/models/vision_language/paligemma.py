"""PaliGemma: image and question see all of each other, only the answer is written in order (Beyer et al. 2024).

What changed over LLaVA: the prefix is read both ways, as an encoder would, and nothing is frozen. It is the part of pi0
that sees and reads.

How it is composed: `VisionTower` (SigLIP's) -> `Projector` (one map) -> `Prefix(whole)` around a `Gpt` with Gemma's
parts -> `Autoregressive`, with the loss on answers alone.

Deviations: a CPU size by default. `published()` has the sizes of the 3B model at 224 px.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.contracts import Optim
from nextmove.models.vision_language.assemble import Trained, assemble
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import CHAT, PLAIN, Wording
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower

WORDING = Wording(question="<bos>{}", caption="<bos>", behind="\n", end="<eos>", special=False)
"""That of the published model, whose images come first of all."""
SIGHT = VisionTower(64, 8, 192, 4, 6, norm=LayerNorm(1e-6), class_token=False, pool="none")
"""For images of 64 px, 64 tokens."""


def gemma(width: int, layers: int, heads: int, head: int, hidden: int) -> Gpt:
    """A language model with Gemma's parts, one head of keys and values."""
    return Gpt(
        width,
        layers,
        Heads(heads, 1, head, bias=False, out_bias=False),
        positions="rotary",
        norm=RmsNorm(1e-6, offset=1.0),
        feedforward=GatedMlp(hidden, "gelu_tanh"),
        head="tied",
        embed_scale=width**0.5,
    )


@dataclass(frozen=True)
class PaliGemma:
    """A language model that reads image and question both ways."""

    tower: VisionTower = SIGHT
    projector: Projector = Projector(1)
    net: Prefix = field(default_factory=lambda: Prefix(gemma(192, 4, 6, 32, 512), whole=True, first=1))
    wording: Wording = PLAIN
    trains: tuple[Trained, ...] = ("tower", "bridge", "language")
    """Parts whose weights are trained."""
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=100, batch=64, ema=0.999)

    @classmethod
    def published(cls) -> PaliGemma:
        """The 3B model at 224 px, of 257216 ids: 2,923,466,480 weights."""
        units = DenseMlp(4304)
        tower = VisionTower(224, 14, 1152, 27, 16, units, LayerNorm(1e-6), class_token=False, pool="none")
        net = Prefix(gemma(2048, 18, 8, 256, 16384), 257152, whole=True, first=1)
        return cls(tower, Projector(1), net, WORDING, optim=Optim(lr=2e-5, weight_decay=3e-7, batch=256, ema=0.0))

    def speaking(self, trunk: Gpt, chat: bool) -> Self:
        """The same around a pretrained language model; chat: one that was trained on ChatML."""
        return replace(self, net=replace(self.net, trunk=trunk), wording=CHAT if chat else self.wording)

    def build(self, spec: PairSpec) -> Reader:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        return assemble(
            spec, self.tower, self.projector, self.net, self.wording, trains=self.trains, values="symmetric"
        )
