"""The image towers of CLIP, SigLIP, Idefics and Idefics3 in transformers' layout, whole models' and parts' alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextmove.interop.hf.clip import BLOCK, SIGHT
from nextmove.interop.hf.config import activation, expect, read
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

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
    projection_dim: int = 512
    """Of a map that is no part of the tower."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
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
    use_base_siglip: bool = False
    max_image_size: dict[str, Any] | None = None
    size: dict[str, Any] | None = None


def tower(data: Mapping[str, Any], *, default: str, layer: int = -1, **parts: Any) -> VisionTower:
    """The tower of a vision_config.

    default: model_type where the file names none; layer: which hidden state it gives; parts: fields that are not its
    family's. Raises ConfigError naming the key that is wrong.
    """
    kind = data.get("model_type", default)
    expect("vision_config.model_type", kind, *KINDS)
    defaults, family = KINDS[kind]
    config, _ = read(VisionConfig, {**defaults, **data})
    return VisionTower(
        **{
            "image": config.image_size,
            "patch": config.patch_size,
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
    )


def foreign(name: str) -> str | None:
    """A tensor of our tower under transformers' name, packed ones under a name of their own."""
    if not name.startswith("stream.blocks."):
        return renamed(name, SIGHT)
    index, _, rest = name.removeprefix("stream.blocks.").partition(".")
    inside = renamed(rest, BLOCK)
    return None if inside is None else f"encoder.layers.{index}.{inside}"


def pack(checkpoint: Checkpoint, config: VisionTower) -> None:
    """Brings a tower's tensors into our shapes."""
    checkpoint.ignore("embeddings.position_ids", "the numbers of the positions, which are computed")
    width = config.width
    for layer in range(config.layers):
        attention = f"encoder.layers.{layer}.self_attn"
        names = [f"{attention}.{part}_proj" for part in "qkv"]
        checkpoint.pack(f"{attention}.qkv.weight", {f"{name}.weight": (width, width) for name in names})
        checkpoint.pack(f"{attention}.qkv.bias", {f"{name}.bias": (width,) for name in names})
