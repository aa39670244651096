"""pi0-FAST: a vision-language model that writes chunks of moves as few words.

What changed over OpenVLA: a chunk's frequencies are written in place of each number of each move, the slow ones of all
joints first, joined by byte pair encoding (FAST, Pertsch et al. 2025), so that half a hundred words hold a second of
motion; the state is read in words, too. What changed over pi0: no expert and no noise, one word after another.

How it is composed: `VisionTower` (SigLIP's) -> `Projector` (one map) -> `Reading` (state in words) around a `Gpt` with
Gemma's parts; `Continued`, which writes `FastTokens` as ids of the vocabulary -> `Autoregressive`, greedy.

Where what is: the words read are `Prompt.texts` (encoders/prompt.py), those written `Fast.encode` (codecs/fast.py), the
prefix `ReadingEncoder.prefix` (encoders/reading.py); the loss is `AutoregressiveDecoder.loss_at`, which may follow what
`Rule` (codecs/fast_rule.py).

Deviations: a CPU size over bytes by default, whose tokenizer of actions is fitted on the data. "Action: " in front of
the ids is trained as they are, over the whole vocabulary, but given where a plan is made, and only ids that keep the
chunk decodable are drawn. `published()` has the sizes of the 2.9 B model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import Feature, Optim
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.pi0 import EOS, SIGLIP, VOCABULARY
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import reading
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.policy.wording import SPOKEN, among, asked, behind, worded
from nextmove.models.vision_language.paligemma import SIGHT, gemma
from nextmove.nn.continued import Continued

TOLD = "Task: {task}, State: {state};\n"
"""What the language model is told."""
PIECES, SKIPPED = 2048, 128
"""Pieces of the published tokenizer of actions, and ids at the end of the vocabulary that it does not take."""
BEGIN, ACTION, BAR = 2, (4022, 235292, 235248), 235371
"""PaliGemma's ids of the beginning of a text, of "Action: " and of "|", which ends a chunk."""
BYTES, SMALL = 259, 512
"""Ids of the tokenizer over bytes, and pieces of the small model's actions."""
OPENING = (257, *b"Action: ")
"""The beginning of a text and "Action: " in bytes."""


def written(first: int, pieces: int, step: int, lead: tuple[int, ...], end: int) -> Autoregressive:
    """A decoder that writes FAST's pieces as ids `first`, `first + step`, ... of a vocabulary, then `end`.

    lead: what a text begins with, then what is written in front of the pieces, which is learnt as they are.
    """
    trunk = Continued(vocabulary=((first, pieces, step), (end, 1, 1)), lead=lead, learnt=True, others=True)
    return Autoregressive(trunk, sampling=Sampling(temperature=0.0))


@dataclass(frozen=True)
class Pi0Fast:
    """FAST's ids by a language model that reads pictures, words and the state in words."""

    timing: Timing = Timing(n_obs_steps=1, horizon=16, n_action_steps=8)
    encoder: Reading = field(
        default_factory=lambda: Reading(
            gemma(192, 4, 6, 32, 512), ids=BYTES + SMALL + 1, towers=(SIGHT,), prompt=Prompt(TOLD, 256, clean=True),
            state="words", state_scaling="quantiles",
        )
    )  # fmt: skip
    actions: ActionSpace = ActionSpace("quantiles", per_step=False, fast=SMALL)
    decoder: Autoregressive = field(default_factory=lambda: written(BYTES, SMALL, 1, OPENING, BYTES + SMALL))
    optim: Optim = Optim(lr=5e-4, weight_decay=1e-4, batch=32)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> Pi0Fast:
        """The 2.9 B model, whose head is the table of embeddings: 2,923,335,408 weights."""
        prompt = Prompt(TOLD, 200, clean=True, classes=VOCABULARY)
        language = gemma(2048, 18, 8, 256, 16384)
        encoder = Reading(
            language, VOCABULARY, (SIGLIP,), prompt=prompt, state="words", state_scaling="quantiles"
        )  # fmt: skip
        actions = ActionSpace("quantiles", per_step=False, space="absolute", fast=PIECES, fast_length=256)
        decoder = written(VOCABULARY - 1 - SKIPPED, PIECES, -1, (BEGIN, *ACTION), BAR)
        optim = Optim(lr=2.5e-5, weight_decay=1e-10, warmup=1000, batch=32, ema=0.99)
        return cls(Timing(1, 50, 50), encoder, actions, decoder, optim)

    def seeing(self, inputs: Mapping[str, Feature]) -> Pi0Fast:
        """The same for the cameras in colour and the robot's own state (`sight.reading`)."""
        return reading(self, inputs)

    def worded(self, words: Tokenizer) -> Pi0Fast:
        """The same with words read by a tokenizer in place of bytes, and actions as ids behind them; of the published
        size they are the tokenizer's last.

        Raises ValueError for a tokenizer that has too few, or not what stands around actions.
        """
        pieces, published = self.actions.fast, bool(self.encoder.prompt.classes)
        place = among(words, pieces, SKIPPED) if published else behind(words)
        decoder = written(place.first, pieces, place.step, place.lead, place.end)
        return replace(worded(self, words, 0 if published else pieces), decoder=decoder)

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that is asked for its next sub-task first, which is then read behind the instruction."""
        return asked(self, planner, EOS)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError for pieces of actions that the decoder has no ids for."""
        vocabulary = getattr(self.decoder.trunk, "vocabulary", ())
        places = sum(count for _, count, _ in vocabulary) - 1
        if vocabulary and self.actions.fast != places:
            raise ValueError(
                f"actions.fast: expected {places}, the ids that decoder.trunk.vocabulary holds for it, found "
                f"{self.actions.fast}; change both, and encoder.ids, which counts them too"
            )
        return assemble(spec, self)
