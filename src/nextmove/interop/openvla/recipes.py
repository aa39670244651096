"""The recipe of a folder that writes actions word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.encoders.pictures import Values
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.interop.openvla.config import Described
from nextmove.models.policy.openvla import SPACE, STRETCHED, TEMPLATE, OpenVla, words
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower


def word_by_word(
    said: Described,
    networks: Sequence[VisionTower],
    values: Sequence[Values],
    tokenizer: Tokenizer,
    cameras: tuple[str, ...],
) -> OpenVla:
    """OpenVLA's recipe with these towers and the language model of a config.json."""
    length = min(512, said.config.llm_max_length)
    prompt = Prompt(TEMPLATE, length, lower=True, classes=said.family.classes, hash=tokenizer.hash)
    reading = Reading(
        said.family.trunk, said.family.classes, tuple(networks), tuple(values), STRETCHED,
        Projector(3, widen=4) if said.config.fused else Projector(2), prompt=prompt, front=1, order="causal",
        cameras=cameras,
    )  # fmt: skip
    space = min(SPACE, said.family.classes - 1)
    made = OpenVla(encoder=reading, decoder=words(said.vocabulary, space, bins=said.config.n_action_bins))
    return replace(made, actions=replace(made.actions, bins=said.config.n_action_bins))
