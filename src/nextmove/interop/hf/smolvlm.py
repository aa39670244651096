"""SmolVLM and Idefics3 in transformers' layout: SigLIP's tower, shuffled tokens, a language model (Marafioti et al.
2025; Laurençon et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.interop.hf import joined, vision
from nextmove.interop.hf.config import read
from nextmove.interop.hf.reading import Read
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.smolvlm import WORDING
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector


@dataclass(frozen=True)
class SmolVlmConfig:
    """config.json, with the defaults of its class."""

    text_config: dict[str, Any] = field(default_factory=dict)
    vision_config: dict[str, Any] = field(default_factory=dict)
    image_token_id: int = 128257
    scale_factor: int = 2
    tie_word_embeddings: bool = False
    vocab_size: int | None = None
    image_seq_len: int | None = None
    is_encoder_decoder: bool = False


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The model of a folder; raises as `joined.load`."""
    return joined.load(folder, join, dtype)


def join(data: Mapping[str, Any]) -> joined.Joined:
    """The model of a config.json and where its tensors go."""
    config, aside = read(SmolVlmConfig, data)
    family = joined.family_of(data, config.text_config, default="llama", tied=config.tie_word_embeddings)
    kind = f"{data['model_type']}_vision"
    tower = vision.tower(config.vision_config, default=kind)
    projector = Projector(1, bias=False, shuffle=config.scale_factor)
    width = family.trunk.width
    decoder = Autoregressive(Prefix(family.trunk, config.image_token_id), classes=family.classes, start=False)
    model = Reader(
        PairSpec(tower.image, tower.image, family.classes, family.length),
        tower=tower.build(),
        bridge=projector.build(tower.width, width),
        decoder=decoder.build(shape=(family.length,), context=ContextSpec(token=width)),
        wording=WORDING,
        each=projector.tokens(tower.tokens),
        values="symmetric",
    )
    parts = (
        joined.Part(
            "text_model", "decoder.net.language", family.foreign, lambda c: family.pack(c, family.config),
            ("lm_head.",),
        ),
        joined.Part("vision_model", "tower", vision.foreign, lambda c: vision.pack(c, tower)),
        joined.Part(
            "connector.modality_projection", "bridge", lambda name: name.replace("maps.0", "proj"),
        ),
    )  # fmt: skip
    return joined.Joined(str(data["model_type"]), config, model, parts, aside)
