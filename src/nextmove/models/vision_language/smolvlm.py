"""SmolVLM: few tokens an image, for small language models (Marafioti et al. 2025).

What changed over LLaVA: neighbouring patches are shuffled into one token, so that an image costs 64 tokens in place of
1024, and positions are found by how far along the image a patch is. It is the part of SmolVLA that sees and reads.

How it is composed: `VisionTower` (SigLIP's, positions in buckets) -> `Projector(shuffle)` (one map) -> `Prefix` around
`Gpt` -> `Autoregressive`, with the loss on answers alone.

Deviations: a CPU size by default, and one picture an image: the published processor adds tiles of large ones.
`published()` has the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.contracts import Optim
from nextmove.models.vision_language.assemble import Trained, assemble
from nextmove.models.vision_language.llava import llama
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import CHAT, PLAIN, Wording
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector
from nextmove.nn.rope import Rotary
from nextmove.nn.vit import VisionTower

WORDING = Wording(
    first="<|im_start|>",
    before="User:",
    image="<fake_token_around_image><global-img><image><fake_token_around_image>",
    behind="<end_of_utterance>\nAssistant:",
    gap=" ",
    end="<end_of_utterance>",
    after="\n",
    special=False,
)
"""That of the published models."""
SIGHT = VisionTower(64, 8, 192, 4, 6, norm=LayerNorm(1e-6), class_token=False, pool="none", resize="buckets")
"""For images of 64 px, 64 patches."""
SIZES = {
    "256M": (576, 30, 9, 3, 1536, VisionTower(512, 16, 768, 12, 12, DenseMlp(3072)), 4),
    "500M": (960, 32, 15, 5, 2560, VisionTower(512, 16, 768, 12, 12, DenseMlp(3072)), 4),
    "2.2B": (2048, 24, 32, 32, 8192, VisionTower(384, 14, 1152, 27, 16, DenseMlp(4304)), 3),
}


@dataclass(frozen=True)
class SmolVlm:
    """A small language model with shuffled patches among its words."""

    tower: VisionTower = SIGHT
    projector: Projector = Projector(1, bias=False, shuffle=2)
    net: Prefix = field(default_factory=lambda: Prefix(llama(192, 4, 6, 512)))
    wording: Wording = PLAIN
    trains: tuple[Trained, ...] = ("tower", "bridge", "language")
    """Parts whose weights are trained."""
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=100, batch=64, ema=0.999)

    @classmethod
    def published(cls, size: str = "256M") -> SmolVlm:
        """256M, 500M or 2.2B, of 49280 ids: 256,484,928, 507,482,304 and 2,246,784,880 weights."""
        width, layers, heads, shared, hidden, tower, shuffle = SIZES[size]
        trunk = Gpt(
            width,
            layers,
            Heads(heads, shared, bias=False, out_bias=False),
            positions="rotary",
            rotary=Rotary(1e5),
            norm=RmsNorm(),
            feedforward=GatedMlp(hidden),
            head="plain",
        )
        tower = replace(tower, norm=LayerNorm(1e-6), class_token=False, pool="none", resize="buckets")
        bridge = Projector(1, bias=False, shuffle=shuffle)
        return cls(tower, bridge, Prefix(trunk, 49190), WORDING, optim=Optim(lr=2e-5, batch=256, ema=0.0))

    def speaking(self, trunk: Gpt, chat: bool) -> Self:
        """The same around a pretrained language model; chat: one that was trained on ChatML."""
        return replace(self, net=replace(self.net, trunk=trunk), wording=CHAT if chat else self.wording)

    def build(self, spec: PairSpec) -> Reader:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        return assemble(
            spec, self.tower, self.projector, self.net, self.wording, trains=self.trains, values="symmetric"
        )
