"""A checkpoint of pi0-FAST as a recipe of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nextmove.codecs.fast import Fast
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import Optim
from nextmove.decoders.sampling import Sampling
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.interop.pi.composed import acted, language, mode
from nextmove.interop.pi.config import Sizes
from nextmove.interop.pi_fast.config import PiFastConfig
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.pi0_fast import ACTION, BAR, BEGIN, PIECES, TOLD, Pi0Fast, written
from nextmove.models.policy.wording import behind


@dataclass(frozen=True)
class Places:
    """Where in a vocabulary the ids of actions are: the first of them, going down, and those around them."""

    first: int
    lead: tuple[int, ...] = (BEGIN, *ACTION)
    end: int = BAR

    @classmethod
    def of(cls, config: PiFastConfig, ids: int, words: Tokenizer) -> Places:
        """Those of a tokenizer of words; where its file is absent, PaliGemma's.

        Raises ConfigError for a tokenizer that lacks what stands around the ids.
        """
        if not words.files():
            return cls(ids - 1 - config.fast_skip_tokens)
        try:
            _, _, lead, end = behind(words)
        except ValueError as problem:
            raise ConfigError(f"tokenizer.json: {problem}") from None
        count = words.backend.get_vocab_size(with_added_tokens=False)
        return cls(count - 1 - config.fast_skip_tokens, lead, end)


def recipe(
    config: PiFastConfig, sizes: Sizes, spec: PolicySpec, places: Places, fast: Fast | None, *, tied: bool, hash: str
) -> Pi0Fast:
    """The recipe; fast: the tokenizer of actions, if it is there; tied: whether the head is the table of embeddings.

    Raises ConfigError for more pieces than there are ids below the first.
    """
    pieces, scale = (PIECES, 10.0) if fast is None else (fast.vocabulary, fast.scale)
    if places.first - pieces + 1 < 0:
        raise ConfigError(
            f"config.json: fast_skip_tokens: expected at least {pieces} ids for actions from {places.first} down, "
            f"found {places.first + 1}"
        )
    own = next(name for name, feature in spec.inputs.items() if feature.type == "state")
    encoder = Reading(
        replace(language(sizes.language), head="tied" if tied else "plain"),
        sizes.ids,
        (sizes.tower,),
        cameras=tuple(name for name, feature in spec.inputs.items() if feature.type == "image"),
        prompt=Prompt(TOLD, config.tokenizer_max_length, True, classes=sizes.ids, hash=hash),
        state="words",
        states=(own,),
        state_scaling=mode(config, "STATE"),
        ahead=places.lead[:1],
    )
    length = min(config.max_action_tokens, config.max_decoding_steps + 1) - len(places.lead)
    actions = replace(acted(config, own), fast=pieces, fast_scale=scale, fast_length=max(length, 1))
    decoder = written(places.first, pieces, -1, places.lead, places.end)
    optim = Optim(
        config.optimizer_lr, config.optimizer_betas, config.optimizer_eps, config.optimizer_weight_decay,
        config.scheduler_warmup_steps, 32, config.optimizer_grad_clip_norm, 0.99,
    )  # fmt: skip
    decoder = replace(decoder, sampling=Sampling(config.temperature))
    return Pi0Fast(Timing(1, config.chunk_size, config.n_action_steps), encoder, actions, decoder, optim)
