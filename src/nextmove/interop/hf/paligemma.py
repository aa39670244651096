"""PaliGemma in transformers' layout: SigLIP's tower, one linear map and Gemma (Beyer et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.interop.hf import joined, vision
from nextmove.interop.hf.config import expect, read
from nextmove.interop.hf.reading import Read
from nextmove.models.vision_language.paligemma import WORDING
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector


@dataclass(frozen=True)
class PaliGemmaConfig:
    """config.json, with the defaults of its class."""

    text_config: dict[str, Any] = field(default_factory=dict)
    vision_config: dict[str, Any] = field(default_factory=dict)
    image_token_index: int = 256000
    image_token_id: int | None = None
    """The same under its later name."""
    projection_dim: int | None = None
    hidden_size: int | None = None
    """Of the language model, once more."""
    vocab_size: int | None = None
    ignore_index: int = -100
    tie_word_embeddings: bool = True


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The model of a folder; raises as `joined.load`."""
    return joined.load(folder, join, dtype)


def join(data: Mapping[str, Any]) -> joined.Joined:
    """The model of a config.json and where its tensors go."""
    config, aside = read(PaliGemmaConfig, data)
    apart = ("num_image_tokens", "use_bidirectional_attention")
    text = {key: value for key, value in config.text_config.items() if key not in apart}
    family = joined.family_of(data, text, default="gemma", tied=config.tie_word_embeddings)
    width = family.trunk.width
    expect("projection_dim", config.projection_dim, width, None)
    # Published files say what the head would be; the tower has none.
    sight = {"vision_use_head": False, **config.vision_config}
    tower = vision.tower(sight, default="siglip_vision_model")
    near = [window for window in family.trunk.windows if window]
    if near and min(near) < tower.tokens:
        raise ConfigError(
            f"config.json: text_config: sliding_window: expected {tower.tokens} or more, the tokens of an image, which "
            f"see all of each other, found {min(near)}"
        )
    image = config.image_token_index if config.image_token_id is None else config.image_token_id
    net = Prefix(family.trunk, image, whole=True, first=1)
    model = Reader(
        PairSpec(tower.image, tower.image, family.classes, family.length),
        tower=tower.build(),
        bridge=Projector(1).build(tower.width, width),
        decoder=Autoregressive(net, classes=family.classes, start=False).build(
            shape=(family.length,), context=ContextSpec(token=width)
        ),
        wording=WORDING,
        each=tower.tokens,
        values="symmetric",
    )
    parts = (
        joined.Part(
            "language_model", "decoder.net.language", family.foreign, lambda c: family.pack(c, family.config),
            ("lm_head.",),
        ),
        joined.Part("vision_tower.vision_model", "tower", vision.foreign, lambda c: vision.pack(c, tower)),
        joined.Part("multi_modal_projector", "bridge", lambda name: name.replace("maps.0", "linear")),
    )  # fmt: skip
    return joined.Joined("paligemma", config, model, parts, aside)
