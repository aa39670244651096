"""RT-2: moves are words of a vision-language model, which goes on answering questions (Zitkovich et al. 2023).

What changed over RT-1: nothing is added to a model that was trained on images and texts. 256 ids of its vocabulary, its
rarest, are overwritten with the bins of actions, and it is trained on robots' data and on questions at once.

How it is composed: `Reading` with the parts of LLaVA, PaliGemma or SmolVLM (`around`) -> `Continued`, which writes
`Bins` as the last 256 ids of the vocabulary -> `Autoregressive`, restricted to these ids; questions share the weights
(`CotrainedPolicy`).

Deviations: LLaVA's CPU size over bytes by default, with words of their own for bins, since bytes are all used. The
released model has 8 numbers, the first of them whether the episode ends, which data sets here do not hold. Questions
come with every step, one beside each of the robot's rows, in place of batches that mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from nextmove.contracts import Feature, Optim
from nextmove.encoders.framed import Framed
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.cotrained import CotrainedPolicy
from nextmove.models.policy.openvla import BINS, BYTES, fitted, words
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.vision_language.llava import Llava
from nextmove.nn.prefix import Prefix

ACT, ASK = "what action should the robot take to {task}?", "Q: {} A:"
"""What a robot is asked (the paper's section 3.2), and the words around questions."""
END = BYTES - 1
STRETCHED = Framed("stretch")
SPOKEN = Spoken("answer")
"""How a sub-task is said where one is asked for (the paper's section 4.4)."""


def around(
    model: Any, *, question: str = ASK, front: int = 0, classes: int = 0, hash: str = "", rows: int = BYTES + BINS
) -> Reading:
    """What a recipe of a vision-language model reads, in its order; raises ValueError for one that reads otherwise.

    model: `Llava`, `PaliGemma` or `SmolVlm`, whose images stand among its words; question: the words around one, of
    which `front` ids stand in front of the images; classes, hash: of its tokenizer, 0 = bytes; rows: of its table of
    embeddings.
    """
    net = getattr(model, "net", None)
    if not isinstance(net, Prefix) or getattr(model, "tiles", 1) > 1:
        raise ValueError(
            f"model: expected one that reads a whole image among its words (llava, paligemma, smolvlm), found "
            f"{type(model).__name__}"
        )
    skipped = replace(model.tower, pool="none") if model.tower.pool == "attention" else model.tower
    return Reading(
        net.trunk, rows, (skipped,), (getattr(model, "values", "symmetric"),), STRETCHED, model.projector,
        prompt=Prompt(question.replace("{}", ACT), 160, special=False, classes=classes, hash=hash), front=front,
        order="whole" if net.whole else "causal",
    )  # fmt: skip


@dataclass(frozen=True)
class Rt2:
    """A vision-language model whose rarest words are moves."""

    timing: Timing = Timing(n_obs_steps=1, horizon=1, n_action_steps=1)
    encoder: Reading = field(default_factory=lambda: around(Llava()))
    actions: ActionSpace = ActionSpace("quantiles", per_step=False, bins=BINS, clip=True, space="absolute")
    decoder: Any = field(default_factory=lambda: words(BYTES + BINS, ord("\n")))
    question: str = ASK
    """The words around a question, for which {} stands."""
    end: int = END
    """The id behind an answer in words."""
    answers: float = 1.0
    """What answers to questions count beside actions, where questions are trained on (`--pairs`)."""
    optim: Optim = Optim(lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01, warmup=100, batch=32, ema=0.999)

    def reading(
        self, model: Any, *, question: str, front: int, classes: int, hash: str, lead: tuple[int, ...], end: int
    ) -> Self:
        """The same around a recipe of a vision-language model, the last ids of whose tokenizer become moves.

        question, front, classes, hash: as of `around`; lead: the ids between question and answer; end: the one behind
        an answer. Raises ValueError where the tokenizer has too few ids to give away, or the model reads otherwise.
        """
        if classes <= 2 * BINS:
            raise ValueError(
                f"vocabulary: expected a tokenizer of more than {2 * BINS} ids, the rarest {BINS} of which become "
                f"actions, found {classes}; a model begun with --from language=smollm2 has them"
            )
        encoder = around(model, question=question, front=front, classes=classes, hash=hash, rows=classes)
        found = replace(self, encoder=encoder, decoder=words(classes, *lead), question=question, end=end)
        return found if self.encoder.planner is None else found.planning(self.encoder.planner)

    def seeing(self, inputs: Mapping[str, Feature]) -> Rt2:
        """The same at a size that a CPU trains on."""
        return replace(self, encoder=fitted(self.encoder, inputs))

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that says its next sub-task in front of the action, in the same answer."""
        return replace(self, encoder=replace(self.encoder, planner=replace(planner, end=self.end)))

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError where it has no camera or no instruction."""
        policy = assemble(spec, self, CotrainedPolicy)
        assert isinstance(policy, CotrainedPolicy)
        policy.question, policy.end, policy.share = self.question, self.end, self.answers
        policy.lead = self.decoder.trunk.lead
        return policy
