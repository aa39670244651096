"""LLaVA in transformers' layout: CLIP's tower, a projector of two maps and a language model (Liu et al. 2024)."""

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
from nextmove.interop.hf.config import activation, expect, read
from nextmove.interop.hf.reading import Read
from nextmove.interop.weights import renamed
from nextmove.models.vision_language.llava import VICUNA
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector

PROJECTOR = {"maps.0": "linear_1", "maps.1": "linear_2"}


@dataclass(frozen=True)
class LlavaConfig:
    """config.json, with the defaults of its class."""

    text_config: dict[str, Any] = field(default_factory=dict)
    vision_config: dict[str, Any] = field(default_factory=dict)
    image_token_index: int = 32000
    image_token_id: int | None = None
    """The same under its later name."""
    image_seq_length: int = 576
    projector_hidden_act: str = "gelu"
    multimodal_projector_bias: bool = True
    vision_feature_layer: int | list[int] = -2
    vision_feature_select_strategy: str = "default"
    vocab_size: int | None = None
    ignore_index: int = -100
    tie_word_embeddings: bool = False


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The model of a folder; raises as `joined.load`."""
    return joined.load(folder, join, dtype)


def join(data: Mapping[str, Any]) -> joined.Joined:
    """The model of a config.json and where its tensors go."""
    config, aside = read(LlavaConfig, data)
    expect("vision_feature_select_strategy", config.vision_feature_select_strategy, "default", "full")
    if not isinstance(config.vision_feature_layer, int):
        raise ConfigError(
            f"config.json: vision_feature_layer: only one layer is supported, found {config.vision_feature_layer}"
        )
    family = joined.family_of(data, config.text_config, default="llama", tied=config.tie_word_embeddings)
    tower = vision.tower(config.vision_config, default="clip_vision_model", layer=config.vision_feature_layer)
    skip = tower.extra if config.vision_feature_select_strategy == "default" else 0
    projector = Projector(
        2, activation("projector_hidden_act", config.projector_hidden_act), config.multimodal_projector_bias
    )
    image = config.image_token_index if config.image_token_id is None else config.image_token_id
    width = family.trunk.width
    decoder = Autoregressive(Prefix(family.trunk, image), classes=family.classes, start=False)
    model = Reader(
        PairSpec(tower.image, tower.image, family.classes, family.length),
        tower=tower.build(),
        bridge=projector.build(tower.width, width),
        decoder=decoder.build(shape=(family.length,), context=ContextSpec(token=width)),
        wording=VICUNA,
        skip=skip,
        each=tower.tokens - skip,
    )
    parts = (
        joined.Part(
            "language_model", "decoder.net.language", family.foreign, lambda c: family.pack(c, family.config),
            ("lm_head.",),
        ),
        joined.Part("vision_tower.vision_model", "tower", vision.foreign, lambda c: vision.pack(c, tower)),
        joined.Part("multi_modal_projector", "bridge", lambda name: renamed(name, PROJECTOR)),
    )  # fmt: skip
    return joined.Joined("llava", config, model, parts, aside)
