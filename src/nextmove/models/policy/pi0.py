"""pi0: an action expert beside a vision-language model, which draws chunks of moves by flow matching.

What changed over OpenVLA: moves stay numbers. A second, smaller stream reads the keys and values that the language
model has made of pictures and words, and follows a velocity field from noise to a chunk of 50 moves in ten steps (Black
et al. 2024), so that what is seen and read is computed once a chunk.

How it is composed: `VisionTower` (SigLIP's) -> `Projector` (one map) -> `Reading` around a `Gpt` with Gemma's parts;
`Flow` around the `Expert`, which is shown the robot's state and all moves at once.

Where what is: the loss is `DiffusionDecoder.loss_at`, its time and noise `DiffusionDecoder._draws` (formulas in `Flow`,
decoders/diffusion.py; times by `Beta`, decoders/times.py); the prefix is `ReadingEncoder.prefix` (encoders/reading.py),
the velocity `ExpertNet.forward` (nn/expert.py); actions are scaled by `Scaled.encode` (codecs/scaled.py).

Deviations: a CPU size by default, whose words are bytes. `published()` has the sizes of the 3.3 B model. The velocity
points from noise to data, theirs the other way; `interop.pi` turns the sign of the last map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import Feature, Optim
from nextmove.decoders import Flow
from nextmove.decoders.diffusion import Sampler
from nextmove.decoders.paths import Linear
from nextmove.decoders.times import Beta
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import reading
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.policy.wording import SPOKEN, asked, worded
from nextmove.models.vision_language.paligemma import SIGHT, gemma
from nextmove.nn import Expert
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.vit import VisionTower

VOCABULARY = 257152
"""Ids of PaliGemma's tokenizer, but for the one that stands for an image."""
EOS = 1
"""PaliGemma's id behind a text."""
SIGLIP = VisionTower(224, 14, 1152, 27, 16, DenseMlp(4304), LayerNorm(1e-6), class_token=False, pool="none")
"""So400m at 224 px."""


def flow(expert: Expert, steps: int = 10) -> Flow:
    """pi0's flow matching around an expert, which is told how much noise is left."""
    return Flow(expert, path=Linear(1.0, reverse=True), times=Beta(), sampler=Sampler(steps=steps))


def expert(time: str = "token") -> Expert:
    """One of a size that a CPU trains, beside `gemma(192, 4, 6, 32, 512)`."""
    norm = RmsNorm(1e-6, offset=1.0)
    return Expert(128, 6, feedforward=GatedMlp(320, "gelu_tanh"), norm=norm, time=time)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Pi0:
    """Flow matching by an expert that reads the memory of a vision-language model."""

    timing: Timing = Timing(n_obs_steps=1, horizon=16, n_action_steps=8)
    encoder: Reading = field(
        default_factory=lambda: Reading(
            gemma(192, 4, 6, 32, 512), towers=(SIGHT,), prompt=Prompt(length=96), state="vector", state_width=32
        )
    )
    actions: ActionSpace = ActionSpace(per_step=False, width=32)
    decoder: DecoderConfig = field(default_factory=lambda: flow(expert()))
    optim: Optim = Optim(lr=5e-4, weight_decay=1e-4, batch=32)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> Pi0:
        """The 3.3 B model for up to 32 joints: 3,238,048,528 weights."""
        language = gemma(2048, 18, 8, 256, 16384)
        prompt = Prompt(classes=VOCABULARY)
        encoder = Reading(language, VOCABULARY, (SIGLIP,), prompt=prompt, state="vector", state_width=32)
        actions = ActionSpace(per_step=False, space="absolute", width=32)
        optim = Optim(lr=2.5e-5, weight_decay=1e-10, warmup=1000, batch=32, ema=0.99)
        return cls(Timing(1, 50, 50), encoder, actions, flow(Expert.pi0()), optim)

    def seeing(self, inputs: Mapping[str, Feature]) -> Pi0:
        """The same for the cameras in colour and the robot's own state, where it has one (`sight.reading`)."""
        return reading(self, inputs)

    def worded(self, words: Tokenizer) -> Pi0:
        """The same with words read by a tokenizer in place of bytes."""
        return worded(self, words)

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that is asked for its next sub-task first, which is then read behind the instruction."""
        return asked(self, planner, EOS)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
