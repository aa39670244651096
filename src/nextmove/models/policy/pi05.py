"""pi0.5: pi0 with the robot's state in words, and an expert that the time steers.

What changed over pi0: the state is written into the prompt in 256 bins, as the language model would read any number,
and times scale, shift and gate each part of the expert in place of standing beside each move (Physical Intelligence
2025).

How it is composed: `VisionTower` -> `Projector` -> `Reading` (state in words) around a `Gpt` with Gemma's parts; `Flow`
around an `Expert` with adaptive norms.

Where what is: the words are `Prompt.texts` (encoders/prompt.py); scale, shift and gate are `AdaLN.forward`
(nn/block.py); all else as in `pi0`.

Deviations: a CPU size by default, whose words are bytes. `published()` has the sizes of the 3.3 B model. The flow head
alone is trained, as openpi releases it; `insulated()` (`--size insulated`) trains the language model on FAST's tokens
of the same actions and keeps the expert's gradient from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import Feature, Optim
from nextmove.decoders.insulated import Insulated
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.pi0 import EOS, SIGLIP, VOCABULARY, expert, flow
from nextmove.models.policy.pi0_fast import BYTES, SMALL, written
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import reading
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.policy.wording import asked, behind, worded
from nextmove.models.vision_language.paligemma import SIGHT, gemma
from nextmove.nn import Expert

TOLD = "Task: {task}, State: {state};\nAction: "
"""What the language model is told."""
BEGIN = 257
"""The id of the tokenizer over bytes behind which actions are written."""
ASKED = "Task: {task}, State: {state};\n"
"""What it is told where it is asked for its next sub-task."""
SPOKEN = Spoken("prompt", ASKED, end=BYTES - 1)
"""How it says one over bytes."""


@dataclass(frozen=True)
class Pi05:
    """Flow matching by an expert that the time steers, beside a language model that reads the state in words."""

    timing: Timing = Timing(n_obs_steps=1, horizon=16, n_action_steps=8)
    encoder: Reading = field(
        default_factory=lambda: Reading(
            gemma(192, 4, 6, 32, 512), towers=(SIGHT,), prompt=Prompt(TOLD, 256, clean=True), state="words",
            state_scaling="quantiles",
        )
    )  # fmt: skip
    actions: ActionSpace = ActionSpace(scaling="quantiles", per_step=False, width=32)
    decoder: DecoderConfig = field(default_factory=lambda: flow(expert("adaptive")))
    optim: Optim = Optim(lr=5e-4, weight_decay=1e-4, batch=32)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> Pi05:
        """The 3.3 B model for up to 32 joints: 3,353,433,872 weights."""
        prompt = Prompt(TOLD, 200, clean=True, classes=VOCABULARY)
        encoder = Reading(
            gemma(2048, 18, 8, 256, 16384), VOCABULARY, (SIGLIP,), prompt=prompt, state="words",
            state_scaling="quantiles",
        )  # fmt: skip
        actions = ActionSpace(scaling="quantiles", per_step=False, space="absolute", width=32)
        optim = Optim(lr=2.5e-5, weight_decay=1e-10, warmup=1000, batch=32, ema=0.99)
        return cls(Timing(1, 50, 50), encoder, actions, flow(Expert.pi05()), optim)

    @classmethod
    def insulated(cls, inputs: Mapping[str, Feature] | None = None) -> Pi05:
        """The small one with knowledge insulation (`decoders.insulated`): actions are written as FAST's tokens, too."""
        own = cls()
        words = written(BYTES, SMALL, 1, (BEGIN,), BYTES + SMALL)
        encoder = replace(own.encoder, ids=BYTES + SMALL + 1)
        actions = replace(own.actions, width=0, written=SMALL)
        return replace(own, encoder=encoder, actions=actions, decoder=Insulated(own.decoder, words))

    def seeing(self, inputs: Mapping[str, Feature]) -> Pi05:
        """The same for the cameras in colour and the robot's own state (`sight.reading`)."""
        return reading(self, inputs)

    def worded(self, words: Tokenizer) -> Pi05:
        """The same with words read by a tokenizer in place of bytes; actions that are written stand behind them.

        Raises ValueError for a tokenizer that has not what stands around actions.
        """
        pieces = self.actions.written
        found = worded(self, words, pieces)
        if not isinstance(self.decoder, Insulated):
            return found
        place = behind(words)
        made = written(place.first, pieces, place.step, place.lead[:1], place.end)
        return replace(found, decoder=replace(self.decoder, words=made))

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that is asked for its next sub-task first, which is then read behind the instruction."""
        return asked(self, planner, EOS)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
