"""LLaVA: tokens of an image as words in front of the question (Liu et al. 2023; version 1.5, Liu et al. 2024).

What changed over Flamingo: nothing inside the language model. An image's patches are projected to its width and stand
where words stand, so that any language model reads them.

How it is composed: `VisionTower` (the layer before the last, without the class token) -> `Projector` (two maps) ->
`Prefix` around `Gpt` -> `Autoregressive`, with the loss on answers alone. Two stages: captions with
`trains` ("bridge",), then questions with ("bridge", "language"), begun by `--from` with what the first has learnt.

Deviations: a CPU size by default, whose tower is trained along, since there is no pretrained one; images are stretched
or padded where they are kept (`--fit pad` is LLaVA's). `published()` has 1.5's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.contracts import Optim
from nextmove.encoders.pictures import Values
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
from nextmove.nn.stem import STEM
from nextmove.nn.vit import VisionTower

VICUNA = Wording(
    first="A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. ",
    before="USER: ",
    image="<image>\n",
    behind=" ASSISTANT:",
    gap=" ",
    end="</s>",
)
"""That of LLaVA 1.5."""
SIGHT = VisionTower(128, 16, 192, 4, 6, norm=LayerNorm(), stem=STEM, layer=-2)
"""For images of 128 px, 64 tokens."""


def llama(width: int, layers: int, heads: int, hidden: int) -> Gpt:
    """A language model with Llama's parts."""
    own = Heads(heads, bias=False, out_bias=False)
    return Gpt(width, layers, own, positions="rotary", norm=RmsNorm(), feedforward=GatedMlp(hidden), head="plain")


@dataclass(frozen=True)
class Llava:
    """A language model with the patches of an image among its words."""

    tower: VisionTower = SIGHT
    projector: Projector = Projector()
    net: Prefix = field(default_factory=lambda: Prefix(llama(192, 4, 6, 512)))
    wording: Wording = PLAIN
    trains: tuple[Trained, ...] = ("tower", "bridge", "language")
    """Parts whose weights are trained."""
    tiles: int = 1
    """Tiles along each side of an image, which the tower sees one by one beside the whole (1.6); 1 = none."""
    values: Values = "clip"
    """How pixels are scaled (`encoders.pictures.SCALES`); a tower that it begins with brings its own."""
    adapters: int = 0
    """Rank of low-rank adapters on the language model's layers (`nn.lora`), trained in any case; 0 = none."""
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=100, batch=64, ema=0.999)

    @classmethod
    def published(cls, size: str = "7B", stage: int = 2) -> Llava:
        """LLaVA 1.5 around Vicuna, 7B or 13B, in its first stage (captions) or its second."""
        width, layers, heads, hidden = {"7B": (4096, 32, 32, 11008), "13B": (5120, 40, 40, 13824)}[size]
        quick = DenseMlp(activation="quick_gelu")
        tower = VisionTower(
            336, 14, 1024, 24, 16, quick, LayerNorm(), patch_bias=False, pre_norm=True, normed=False, layer=-2
        )
        rate, batch = (1e-3, 256) if stage == 1 else (2e-5, 128)
        optim = Optim(lr=rate, weight_decay=0.0, warmup=60, batch=batch, ema=0.0)
        trains: tuple[Trained, ...] = ("bridge",) if stage == 1 else ("bridge", "language")
        trunk = replace(llama(width, layers, heads, hidden), norm=RmsNorm(1e-5))
        return cls(tower, Projector(), Prefix(trunk, 32000), VICUNA, trains, optim=optim)

    def speaking(self, trunk: Gpt, chat: bool) -> Self:
        """The same around a pretrained language model; chat: one that was trained on ChatML."""
        return replace(self, net=replace(self.net, trunk=trunk), wording=CHAT if chat else self.wording)

    def build(self, spec: PairSpec) -> Reader:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        return assemble(
            spec, self.tower, self.projector, self.net, self.wording, trains=self.trains, adapters=self.adapters,
            tiles=self.tiles, values=self.values,
        )  # fmt: skip
