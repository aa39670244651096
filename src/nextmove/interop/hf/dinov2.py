"""DINOv2's layout (Oquab et al. 2023), with registers (Darcet et al. 2023) or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.interop.hf import vit, whole
from nextmove.interop.hf.config import activation, expect, read, side
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import Tower
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

BLOCK = {
    "attention_branch.norm": "norm1",
    "attention_branch.scale": "layer_scale1.lambda1",
    "attention.in_proj_weight": "attention.attention.qkv.weight",
    "attention.in_proj_bias": "attention.attention.qkv.bias",
    "attention.out_proj": "attention.output.dense",
    "feedforward_branch.norm": "norm2",
    "feedforward_branch.scale": "layer_scale2.lambda1",
    "feedforward.up": "mlp.fc1",
    "feedforward.down": "mlp.fc2",
}
GATED = {**BLOCK, "feedforward.up": "mlp.weights_in", "feedforward.down": "mlp.weights_out"}


@dataclass(frozen=True)
class Dinov2Config:
    """config.json, with the defaults of its class."""

    model_type: str = "dinov2"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: int | float = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    image_size: int | list[int] = 224
    patch_size: int | list[int] | None = None
    num_channels: int = 3
    qkv_bias: bool = True
    layerscale_value: float = 1.0
    use_swiglu_ffn: bool = False
    num_register_tokens: int = 0
    use_mask_token: bool = True
    apply_layernorm: bool = True
    """Of feature maps, as other models take them; tokens are normed either way."""
    reshape_hidden_states: bool = True
    out_features: list[str] | None = None
    out_indices: list[int] | None = None
    stage_names: list[str] | None = None
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The tower of a config.json."""
    registers = data.get("model_type") == "dinov2_with_registers"
    config, aside = read(Dinov2Config, {"num_register_tokens": 4, **data} if registers else data)
    if not registers:
        expect("num_register_tokens", config.num_register_tokens, 0)
    own = tower(config, aside)
    empty = {} if config.num_register_tokens else {"embeddings.register_tokens": "of no registers"}
    return whole.Whole(
        config.model_type, config, own.build, (("", "", own),), prefix=f"{config.model_type}.",
        ignored=empty if registers else {},
    )  # fmt: skip


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """DINOv2 of a folder as a `VisionTowerNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def tower(config: Dinov2Config, aside: tuple[str, ...] = ()) -> Tower:
    """The tower of a configuration."""
    registers = config.model_type == "dinov2_with_registers"
    hidden = int(config.hidden_size * config.mlp_ratio)
    # The gated part has two thirds as many units, rounded up to a multiple of 8.
    gated = GatedMlp((int(hidden * 2 / 3) + 7) // 8 * 8, bias=True)
    dense = DenseMlp(hidden, activation("hidden_act", config.hidden_act))
    network = VisionTower(
        side("image_size", config.image_size),
        side("patch_size", config.patch_size or (16 if registers else 14)),
        config.hidden_size,
        config.num_hidden_layers,
        Heads(config.num_attention_heads, bias=config.qkv_bias),
        gated if config.use_swiglu_ffn else dense,
        LayerNorm(config.layer_norm_eps),
        config.num_channels,
        "antialias" if registers else "bicubic",
        registers=config.num_register_tokens,
        mask_token=config.use_mask_token,
        layer_scale=1.0,
    )
    block = GATED if config.use_swiglu_ffn else BLOCK
    return Tower(
        config, network.build, network.layers, vit.NAMES, "encoder.layer", block, (vit.packed(config),),
        vit.shapes(network), aside,
    )  # fmt: skip
