"""The image towers of CLIP, SigLIP, Idefics and Idefics3 in transformers' layout, whole models' and parts' alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextmove.config import ConfigError
from nextmove.interop.hf.config import activation, expect, read, side
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.hf.tower import POSITION_IDS, Tower, heads, named
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

NAMES = {
    "embed": "embeddings.patch_embedding",
    "class_token": "embeddings.class_embedding",
    "places.table": "embeddings.position_embedding.weight",
    "pre_norm": "pre_layrnorm",
    "stream.norm": "post_layernorm",
    "pool.probe": "head.probe",
    "pool.attention": "head.attention",
    "pool.rest.feedforward_branch.norm": "head.layernorm",
    "pool.rest.feedforward.up": "head.mlp.fc1",
    "pool.rest.feedforward.down": "head.mlp.fc2",
}
"""Outside the blocks; the head is SigLIP's."""
BLOCKS = "encoder.layers"
BLOCK = {
    "attention_branch.norm": "layer_norm1",
    "attention.in_proj_weight": "self_attn.qkv.weight",
    "attention.in_proj_bias": "self_attn.qkv.bias",
    "attention.out_proj": "self_attn.out_proj",
    "feedforward_branch.norm": "layer_norm2",
    "feedforward.up": "mlp.fc1",
    "feedforward.down": "mlp.fc2",
}
"""Within a block; of the text towers too."""
ATTENTION = "self_attn.qkv q_proj k_proj v_proj"
CLIP = {"class_token": True, "patch_bias": False, "pre_norm": True, "normed": False}
SIGLIP = {"class_token": False, "pool": "none"}
_CLIP = {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP = {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_IDEFICS3 = _SIGLIP | {"hidden_size": 1152, "num_attention_heads": 16, "patch_size": 32}
_BUCKETS = SIGLIP | {"resize": "buckets"}
_IDEFICS = {
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip_vision_model": (_CLIP, CLIP),
    "siglip_vision_model": (_SIGLIP, SIGLIP),
    "smolvlm_vision": (_IDEFICS3, _BUCKETS),
    "idefics3_vision": (_IDEFICS3, _BUCKETS),
    "idefics3": (_IDEFICS3, _BUCKETS),
    "idefics_vision": (_IDEFICS, CLIP),
    "idefics": (_IDEFICS, CLIP),
}
"""model_type -> defaults of its config.json where they are not `VisionConfig`'s, and what its tower is made of."""


@dataclass(frozen=True)
class VisionConfig:
    """vision_config of a config.json."""

    hidden_size: int = 768
    embed_dim: int | None = None
    """The width under Idefics' name."""
    intermediate_size: int = 3072
    projection_dim: int | None = 512
    """Of a map that is no part of the tower."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    vision_use_head: bool = True
    num_image_tokens: int | None = None
    num_positions: int | None = None
    initializer_factor: float = 1.0
    projector_hidden_act: str | None = None
    """Of a projector of two maps, which no tower has."""
    vocab_size: int | None = None
    """Left over from text in published files."""
    tie_word_embeddings: bool = False
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    use_base_siglip: bool = False
    max_image_size: dict[str, Any] | None = None
    size: dict[str, Any] | None = None


def tower(data: Mapping[str, Any], *, default: str, layer: int = -1, **parts: Any) -> VisionTower:
    """The tower of a vision_config; see `described`."""
    return _read(data, default, layer, parts)[0]


def described(
    data: Mapping[str, Any], *, default: str, layer: int = -1, where: str = "vision_config", **parts: Any
) -> tuple[Tower, VisionTower]:
    """The tower of a vision_config with the names of its tensors, and its sizes.

    default: model_type where the file names none; layer: which hidden state it gives; where: the key, for messages;
    parts: fields that are not its family's. Raises ConfigError naming the key that is wrong.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"config.json: {where}: expected an object, found {data!r:.80}")
    try:
        network, config, aside = _read(data, default, layer, parts)
    except ConfigError as problem:
        raise ConfigError(str(problem).replace("config.json", f"config.json: {where}", 1)) from None
    return _layout(network, config, aside), network


def foreign(name: str) -> str | None:
    """A tensor of our tower under transformers' name, packed ones under a name of their own."""
    return named(name, NAMES, BLOCKS, BLOCK)


def pack(checkpoint: Checkpoint, config: VisionTower) -> None:
    """Brings a tower's tensors into our shapes."""
    _layout(config).pack(checkpoint)


def _read(
    data: Mapping[str, Any], default: str, layer: int, parts: Mapping[str, Any]
) -> tuple[VisionTower, VisionConfig, tuple[str, ...]]:
    kind = data.get("model_type", default)
    expect("vision_config.model_type", kind, *KINDS)
    defaults, family = KINDS[kind]
    config, aside = read(VisionConfig, {**defaults, **data})
    sizes: dict[str, Any] = {
        "image": side("image_size", config.image_size),
        "patch": side("patch_size", config.patch_size),
        "width": config.embed_dim or config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "feedforward": DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        "norm": LayerNorm(config.layer_norm_eps),
        "channels": config.num_channels,
        "layer": layer,
        **family,
        **parts,
    }
    return VisionTower(**sizes), config, aside


def _layout(network: VisionTower, config: VisionConfig | None = None, aside: tuple[str, ...] = ()) -> Tower:
    width = network.width
    return Tower(
        config,
        network.build,
        network.layers,
        NAMES,
        BLOCKS,
        BLOCK,
        (heads(ATTENTION, width),),
        {"head.probe": ((1, 1, width), (width,))},
        aside,
        POSITION_IDS,
    )
