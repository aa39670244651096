"""Flamingo: a frozen language model that sees images and texts in any order, examples among them (Alayrac et al. 2022).

What changed over captioning models: the language model stays frozen. A resampler makes a few tokens of any image, and
gated blocks between the layers attend to them; gates start at 0, so that it begins as the language model that it was.
Images and texts follow each other in any order, and a text attends to the image in front of it.

How it is composed: `VisionTower` -> `Perceiver` -> `Interleaved` around a `Gpt` with `Gated` blocks ->
`Autoregressive`, with the loss on answers alone; `Shots` joins rows of a batch into prompts of several examples.

Deviations: a CPU size by default, whose tower and language model are trained along where nothing pretrained is given;
images are named by an embedding of their own in place of a row of the table. `published()` is OpenFlamingo's 3B
(Awadalla et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.contracts import Optim
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.assemble import Trained, assemble
from nextmove.models.vision_language.llava import llama
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.shots import Shots
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import Wording
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.gated import Gated
from nextmove.nn.interleaved import Interleaved
from nextmove.nn.norm import LayerNorm
from nextmove.nn.perceiver import Perceiver
from nextmove.nn.stem import STEM
from nextmove.nn.vit import VisionTower

WORDING = Wording(question="Question:{} Short answer:", caption="Output:", gap=" ", end="<|endofchunk|>", special=False)
"""OpenFlamingo's."""
SIGHT = VisionTower(128, 16, 192, 4, 6, norm=LayerNorm(), stem=STEM)
"""For images of 128 px, 64 patches."""


@dataclass(frozen=True)
class Flamingo:
    """A frozen language model with gated blocks that see."""

    tower: VisionTower = SIGHT
    resampler: Perceiver = Perceiver(16, 2, Heads(4, head_dim=48, bias=False, out_bias=False))
    trunk: Gpt = field(default_factory=lambda: llama(192, 4, 6, 512))
    every: int = 1
    """A gated block in front of every so many layers."""
    heads: Heads = Heads(4, head_dim=48, bias=False, out_bias=False)
    """Of the gated blocks."""
    wording: Wording = WORDING
    shots: Shots | None = Shots()
    """How rows of a batch become prompts with examples; None: each stays alone."""
    trains: tuple[Trained, ...] = ("tower", "bridge", "language")
    """Parts whose weights are trained; the bridge is the resampler and the gated blocks."""
    values: Values = "clip"
    """How pixels are scaled (`encoders.pictures.SCALES`); a tower that it begins with brings its own."""
    adapters: int = 0
    """Rank of low-rank adapters on the language model's layers (`nn.lora`), trained in any case; 0 = none."""
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, warmup=100, batch=60, ema=0.999)

    @classmethod
    def published(cls) -> Flamingo:
        """OpenFlamingo's 3B: CLIP L/14 and MPT-1B with a gated block in front of each layer."""
        quick, own = DenseMlp(activation="quick_gelu"), Heads(8, head_dim=64, bias=False, out_bias=False)
        tower = VisionTower(224, 14, 1024, 24, 16, quick, LayerNorm(), patch_bias=False, pre_norm=True, normed=False)
        trunk = Gpt(
            2048,
            24,
            Heads(16, bias=False, out_bias=False, norm=LayerNorm(bias=False), norm_whole=True),
            positions="alibi",
            norm=LayerNorm(bias=False),
            feedforward=DenseMlp(activation="gelu", bias=False),
            head="tied",
        )
        optim = Optim(lr=1e-4, weight_decay=0.1, warmup=1875, batch=1152, ema=0.0)
        return cls(tower, Perceiver(heads=own), trunk, 1, own, WORDING, None, ("bridge",), optim=optim)

    def speaking(self, trunk: Gpt, chat: bool) -> Self:
        """The same around a pretrained language model; chat: one that was trained on ChatML, whose ending it keeps.

        Another than OpenFlamingo's ending that was chosen is kept, of a model without chats.
        """
        own = "" if self.wording.end == WORDING.end else self.wording.end
        return replace(self, trunk=trunk, wording=replace(self.wording, end="<|im_end|>" if chat else own))

    def build(self, spec: PairSpec) -> Reader:
        """The untrained model; raises ValueError for images that are no squares of whole patches."""
        gated = Gated(self.tower.width, self.every, self.every - 1, self.heads)
        net = Interleaved(replace(self.trunk, gated=gated), self.resampler.latents)
        if self.shots is not None:
            # A prompt has a text and the images of a row for each of its rows.
            count = self.shots.size
            spec = replace(spec, length=spec.length * count, images=spec.images * count)
        return assemble(
            spec, self.tower, self.resampler, net, self.wording, trains=self.trains, shots=self.shots,
            adapters=self.adapters, values=self.values,
        )  # fmt: skip
