"""SigLIP's layout (Zhai et al. 2023): CLIP's blocks, a head that attends over patches, a scale and a bias.

PaliGemma and SmolVLM bring its image tower without the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.interop.hf import clip, whole
from nextmove.interop.hf.config import activation, read, side, within
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import POSITION_IDS, Tower, heads
from nextmove.nn.dual import DualEncoder
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.places import Resize
from nextmove.nn.text_encoder import TextEncoder
from nextmove.nn.vit import VisionTower

SIGHT = {
    "embed": "embeddings.patch_embedding",
    "places.table": "embeddings.position_embedding.weight",
    "stream.norm": "post_layernorm",
    "pool.probe": "head.probe",
    "pool.attention": "head.attention",
    "pool.rest.feedforward_branch.norm": "head.layernorm",
    "pool.rest.feedforward.up": "head.mlp.fc1",
    "pool.rest.feedforward.down": "head.mlp.fc2",
}


@dataclass(frozen=True)
class SiglipVisionConfig(clip.Part):
    """vision_config, with the defaults of its class."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    vision_use_head: bool = True
    """Of PaliGemma: whether there is the head."""
    num_image_tokens: int | None = None
    """Of PaliGemma: the number of patches once more."""
    max_num_patches: int | None = None
    size: dict[str, Any] | None = None
    """Of Idefics3: the size that images are brought to."""
    use_base_siglip: bool = True


@dataclass(frozen=True)
class Idefics3VisionConfig(SiglipVisionConfig):
    """vision_config of Idefics3 and SmolVLM, with the defaults of its class."""

    hidden_size: int = 1152
    num_attention_heads: int = 16
    patch_size: int | list[int] = 32


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
    image, text = vision(data), texts(data)
    own: SiglipTextConfig = text.config

    def build() -> Any:
        dual = DualEncoder(_sight(image.config, True, "none"), _reader(own), project=False, bias=True)
        return dual.build(classes=own.vocab_size, length=own.max_position_embeddings)

    towers = (("image.", "vision_model.", image), ("text.", "text_model.", text))
    names = {"scale": "logit_scale", "bias": "logit_bias"}
    return whole.Whole("siglip", config, build, towers, names, aside=aside)


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """SigLIP of a folder as a `DualEncoderNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def vision(
    data: Mapping[str, Any],
    key: str = "vision_config",
    *,
    head: bool = True,
    resize: Resize = "none",
    kind: type[SiglipVisionConfig] = SiglipVisionConfig,
) -> Tower:
    """The image tower at a key of config.json; head: whether the file has the one that attends over patches.

    kind: whose defaults hold for what the file leaves out.
    """
    config, aside = within(kind, data, key)
    width = config.hidden_size
    return Tower(
        config,
        _sight(config, head, resize).build,
        config.num_hidden_layers,
        SIGHT,
        "encoder.layers",
        clip.BLOCK,
        (heads(clip.ATTENTION, width),),
        {"head.probe": ((1, 1, width), (width,))},
        aside,
        POSITION_IDS,
    )


def _sight(config: SiglipVisionConfig, head: bool, resize: Resize) -> VisionTower:
    return VisionTower(
        side("image_size", config.image_size),
        side("patch_size", config.patch_size),
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        LayerNorm(config.layer_norm_eps),
        config.num_channels,
        resize,
        class_token=False,
        pool="attention" if head else "none",
    )


def texts(data: Mapping[str, Any], key: str = "text_config") -> Tower:
    """The text tower at a key of config.json."""
    config, aside = within(SiglipTextConfig, data, key)
    network = _reader(config)

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.max_position_embeddings)

    names, block = {**clip.TEXT, "project": "head"}, heads(clip.ATTENTION, config.hidden_size)
    return Tower(
        config, build, network.layers, names, "encoder.layers", clip.BLOCK, (block,), aside=aside, ignored=POSITION_IDS
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
