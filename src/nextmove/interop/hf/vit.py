"""ViT's layout (Dosovitskiy et al. 2021), with a classifier, with a pooler, or alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.interop.hf import whole
from nextmove.interop.hf.config import activation, expect, read, side
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import Packed, Tower, heads
from nextmove.nn.attention import Heads
from nextmove.nn.classifier import ImageHead
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

NAMES = {
    "embed": "embeddings.patch_embeddings.projection",
    "class_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "registers": "embeddings.register_tokens",
    "places.table": "embeddings.position_embeddings",
    "stream.norm": "layernorm",
}
"""Outside the blocks; DINOv2's are the same."""
ATTENTION = "attention.attention.qkv query key value"
BLOCK = {
    "attention_branch.norm": "layernorm_before",
    "attention.in_proj_weight": "attention.attention.qkv.weight",
    "attention.in_proj_bias": "attention.attention.qkv.bias",
    "attention.out_proj": "attention.output.dense",
    "feedforward_branch.norm": "layernorm_after",
    "feedforward.up": "intermediate.dense",
    "feedforward.down": "output.dense",
}
CLASSES = 2
"""What the classifier tells apart where config.json does not say."""


@dataclass(frozen=True)
class VitConfig:
    """config.json, with the defaults of its class."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    encoder_stride: int = 16
    """Of a decoder of hidden patches."""
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The tower of a config.json and, as the names in the file say, its classifier or pooler."""
    config, aside = read(VitConfig, data)
    own = tower(config, aside, masks=any(name.endswith("embeddings.mask_token") for name in tensors))
    head = {"head": "classifier"} if "classifier.weight" in tensors else {}
    if any(name.endswith("pooler.dense.weight") for name in tensors):
        expect("pooler_act", config.pooler_act, "tanh")
        head = {"head": "pooler.dense"}
    if not head:
        return whole.Whole("vit", config, own.build, (("", "", own),), prefix="vit.")
    pools = "pooler.dense" in head.values()
    classes = config.pooler_output_size or config.hidden_size if pools else labels(data)

    def build() -> Any:
        return ImageHead(own.build(), classes, tanh=pools)  # type: ignore[arg-type]

    return whole.Whole("vit", config, build, (("tower.", "", own),), head, "vit.")


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """ViT of a folder, as an `ImageHead` or a `VisionTowerNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def labels(data: Mapping[str, Any]) -> int:
    """The number of classes that a config.json says."""
    found = data.get("id2label")
    if isinstance(found, Mapping):
        return len(found)
    count = data.get("num_labels", CLASSES)
    if not isinstance(count, int):
        raise ConfigError(f"config.json: num_labels: expected a number, found {count!r:.80}")
    return count


def tower(config: VitConfig, aside: tuple[str, ...] = (), *, masks: bool = False) -> Tower:
    """The tower of a configuration; masks: whether the file has a token for hidden patches."""
    network = VisionTower(
        side("image_size", config.image_size),
        side("patch_size", config.patch_size),
        config.hidden_size,
        config.num_hidden_layers,
        Heads(config.num_attention_heads, bias=config.qkv_bias),
        DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        LayerNorm(config.layer_norm_eps),
        config.num_channels,
        mask_token=masks,
    )
    return Tower(
        config, network.build, network.layers, NAMES, "encoder.layer", BLOCK, (packed(config),), shapes(network), aside
    )


def packed(config: Any) -> Packed:
    """Queries, keys and values of a configuration of ViT or DINOv2."""
    found = heads(ATTENTION, config.hidden_size)
    return found if config.qkv_bias else Packed(found.whole, found.parts, found.rows, found.columns, bias=False)


def shapes(network: VisionTower) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Tokens and positions as ViT and DINOv2 store them, and as we do."""
    width, places, extra = network.width, network.side**2 + 1, network.registers
    return {
        "embeddings.cls_token": ((1, 1, width), (width,)),
        "embeddings.mask_token": ((1, width), (width,)) if network.layer_scale else ((1, 1, width), (width,)),
        "embeddings.register_tokens": ((1, extra, width), (extra, width)),
        "embeddings.position_embeddings": ((1, places, width), (places, width)),
    }
