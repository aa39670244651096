"""SigLIP's layout (Zhai et al. 2023): CLIP's blocks, a head that attends over patches, a scale and a bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.interop.hf import clip, vision, whole
from nextmove.interop.hf.config import activation, read, within
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import POSITION_IDS, Tower, heads
from nextmove.nn.dual import DualEncoder
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.text_encoder import TextEncoder


@dataclass(frozen=True)
class SiglipTextConfig(clip.Part):
    """text_config, with the defaults of its class."""

    vocab_size: int = 32000
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 64
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    projection_size: int | None = None


@dataclass(frozen=True)
class SiglipConfig:
    """config.json."""

    text_config: dict[str, Any] | None = None
    vision_config: dict[str, Any] | None = None
    tie_word_embeddings: bool = True


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The two towers of a config.json."""
    config, aside = read(SiglipConfig, data)
    image, sight = vision.described(data.get("vision_config") or {}, default="siglip_vision_model", pool="attention")
    text = texts(data)
    own: SiglipTextConfig = text.config

    def build() -> Any:
        dual = DualEncoder(sight, _reader(own), project=False, bias=True)
        return dual.build(classes=own.vocab_size, length=own.max_position_embeddings)

    towers = (("image.", "vision_model.", image), ("text.", "text_model.", text))
    names = {"scale": "logit_scale", "bias": "logit_bias"}
    return whole.Whole("siglip", config, build, towers, names, aside=aside)


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """SigLIP of a folder as a `DualEncoderNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def texts(data: Mapping[str, Any], key: str = "text_config") -> Tower:
    """The text tower at a key of config.json."""
    config, aside = within(SiglipTextConfig, data, key)
    network = _reader(config)

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.max_position_embeddings)

    names, block = {**clip.TEXT, "project": "head"}, heads(vision.ATTENTION, config.hidden_size)
    return Tower(
        config, build, network.layers, names, vision.BLOCKS, vision.BLOCK, (block,), aside=aside, ignored=POSITION_IDS
    )


def _reader(config: SiglipTextConfig) -> TextEncoder:
    return TextEncoder(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.projection_size or config.hidden_size,
        pool="last",
        feedforward=DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        norm=LayerNorm(config.layer_norm_eps),
        out_bias=True,
    )
