"""CLIP's layout (Radford et al. 2021): two towers, a projection of each, and the logarithm of a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.interop.hf import vision, whole
from nextmove.interop.hf.config import activation, read, within
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import POSITION_IDS, Tower, heads
from nextmove.nn.dual import DualEncoder
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.text_encoder import TextEncoder

TEXT = {
    "embedding": "embeddings.token_embedding",
    "position": "embeddings.position_embedding.weight",
    "stream.norm": "final_layer_norm",
}
LARGEST = 2
"""The end of a text in configs that were written before ends were looked for: then the largest id stands for a text."""


@dataclass(frozen=True)
class Part:
    """Keys that old files write out for any model."""

    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    projection_dim: int | None = 512
    """Of a tower alone; the model's own decides."""


@dataclass(frozen=True)
class ClipTextConfig(Part):
    """text_config, with the defaults of its class."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407


@dataclass(frozen=True)
class ClipConfig:
    """config.json, with the defaults of its class."""

    projection_dim: int = 512
    text_config: dict[str, Any] | None = None
    vision_config: dict[str, Any] | None = None
    text_config_dict: dict[str, Any] | None = None
    """Of old files: what takes the place of `text_config`, with the class's defaults for what it does not say."""
    vision_config_dict: dict[str, Any] | None = None
    tie_word_embeddings: bool = True


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The two towers of a config.json."""
    config, aside = read(ClipConfig, data)
    keys = [f"{part}_config_dict" if data.get(f"{part}_config_dict") else f"{part}_config" for part in PARTS]
    image, sight = vision.described(data.get(keys[0]) or {}, default="clip_vision_model", where=keys[0])
    text = texts(data, keys[1], config.projection_dim)
    own: ClipTextConfig = text.config

    def build() -> Any:
        dual = DualEncoder(sight, _reader(own, config.projection_dim))
        return dual.build(classes=own.vocab_size, length=own.max_position_embeddings)

    names = {"project": "visual_projection", "text.project": "text_projection", "scale": "logit_scale"}
    towers = (("image.", "vision_model.", image), ("text.", "text_model.", text))
    return whole.Whole("clip", config, build, towers, names, aside=aside)


PARTS = ("vision", "text")


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """CLIP of a folder as a `DualEncoderNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def texts(data: Mapping[str, Any], key: str = "text_config", out: int = 0) -> Tower:
    """The text tower at a key of config.json; out: width of its projection, 0 for none."""
    config, aside = within(ClipTextConfig, data, key)
    network = _reader(config, out)

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.max_position_embeddings)

    block = heads(vision.ATTENTION, config.hidden_size)
    return Tower(
        config, build, network.layers, TEXT, vision.BLOCKS, vision.BLOCK, (block,), aside=aside, ignored=POSITION_IDS
    )


def _reader(config: ClipTextConfig, out: int) -> TextEncoder:
    return TextEncoder(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        out,
        causal=True,
        pool="largest" if config.eos_token_id == LARGEST else "marked",
        mark=config.eos_token_id,
        feedforward=DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        norm=LayerNorm(config.layer_norm_eps),
    )
