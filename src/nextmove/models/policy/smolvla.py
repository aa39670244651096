"""SmolVLA: a small vision-language-action model, whose action expert reads half of a small language model.

What changed over pi0: the language model ends at its middle layer; an image is 64 tokens; the expert is three quarters
as wide and attends to the prefix alone in every other layer, so that a plan fits a laptop (Shukor et al. 2025).

How it is composed: `Reading` (SmolVLM2's image tower with shuffled patches, the first 16 layers of SmolLM2, the state
as the last token) -> `Flow` around `Expert`, ten Euler steps to 50 actions.

Where what is: the prefix is `ReadingEncoder.embedded` (encoders/reading.py), what the expert adds `ExpertNet.forward`
(nn/expert.py), the loss `DiffusionDecoder.loss_at`, the sampler `DiffusionDecoder.sample` (decoders/diffusion.py);
actions are scaled by `Scaled.encode` (codecs/scaled.py) and padded to 32 numbers.

Deviations: sizes for a CPU by default, with words as bytes; `published()` has the sizes of the released model of 450 M
parameters, 47 M of them a map to words that plans do without. Times run from noise (0) to data (1) and velocities with
them, so the expert's output is the negative of the published one. The language model and its tower are trained along
unless `optim.scales` freezes them, as the published recipe does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import Feature, Optim
from nextmove.encoders.framed import Framed
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.pi0 import flow
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import reading
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.policy.wording import SPOKEN, asked, worded
from nextmove.nn import Expert, Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower

FROZEN = (("encoder", 0.0), ("encoder.state", 1.0))
"""What the published recipe trains: the expert and the maps of states and actions."""


def reads(language: Gpt, tower: VisionTower, shuffle: int, prompt: Prompt, states: int, ids: int = 0) -> Reading:
    """The prefix: images, words, then the state, padded to `states` numbers, which nothing in front of it sees."""
    projector = Projector(1, bias=False, shuffle=shuffle)
    return Reading(
        language, ids=ids, towers=(tower,), framed=Framed("corner"), projector=projector,
        image_scale=language.width**0.5, prompt=prompt, state="token", state_width=states,
    )  # fmt: skip


def language(width: int, layers: int, heads: Heads, hidden: int) -> Gpt:
    """A language model of Llama's parts with embeddings times the root of its width."""
    return Gpt(
        width, layers, heads, positions="rotary", norm=RmsNorm(1e-5), feedforward=GatedMlp(hidden), head="plain",
        embed_scale=width**0.5,
    )  # fmt: skip


def sight(image: int, patch: int, width: int, layers: int, heads: int, hidden: int = 0) -> VisionTower:
    """SigLIP's tower with positions for images of any size."""
    return VisionTower(
        image, patch, width, layers, heads, DenseMlp(hidden), LayerNorm(1e-6), resize="buckets", class_token=False,
        pool="none",
    )  # fmt: skip


SMALL = Heads(4, 2, 32, bias=False, out_bias=False)
TINY = Expert(96, 4, feedforward=GatedMlp(256), norm=RmsNorm(1e-5), time="token", causal=True, joint_every=2)


@dataclass(frozen=True)
class SmolVla:
    """Images, an instruction and a state to a chunk of actions, by flow matching on half a language model."""

    timing: Timing = Timing(n_obs_steps=1, horizon=16, n_action_steps=8)
    encoder: Reading = field(
        default_factory=lambda: reads(language(128, 4, SMALL, 256), sight(64, 8, 128, 4, 4), 2, Prompt(length=96), 0)
    )
    actions: ActionSpace = ActionSpace(per_step=False, space="absolute", mask_padding=True)
    decoder: DecoderConfig = field(default_factory=lambda: flow(TINY))
    optim: Optim = Optim(lr=5e-4, weight_decay=1e-10, batch=32, clip=10.0)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> SmolVla:
        """The released model's sizes, 450,046,176 parameters, of which the expert's 98 M are trained."""
        heads = Heads(15, 5, 64, bias=False, out_bias=False)
        prompt = Prompt(classes=49280)
        return cls(
            Timing(1, 50, 50),
            reads(language(960, 16, heads, 2560), sight(512, 16, 768, 12, 12, 3072), 4, prompt, 32, 49280),
            ActionSpace(per_step=False, space="absolute", width=32, mask_padding=True),
            flow(Expert.smolvla()),
            Optim(lr=1e-4, weight_decay=1e-10, warmup=1000, clip=10.0, batch=64, ema=0.0, scales=FROZEN),
        )

    def seeing(self, inputs: Mapping[str, Feature]) -> SmolVla:
        """The same for the cameras in colour and the robot's own state (`sight.reading`)."""
        return reading(self, inputs)

    def worded(self, words: Tokenizer) -> SmolVla:
        """The same with words read by a tokenizer in place of bytes."""
        return worded(self, words)

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that is asked for its next sub-task first, which is then read behind the instruction.

        Raises ValueError where the language model that would write it is frozen, as the published recipe has it.
        """
        if self.optim.scales == FROZEN:
            raise ValueError(
                "planner: expected a language model that learns to write sub-tasks, found the published recipe, which "
                "freezes it; change --recipe.optim.scales, or leave planner out"
            )
        return asked(self, planner, planner.end)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError for one without a camera, an instruction or a state."""
        return assemble(spec, self)
