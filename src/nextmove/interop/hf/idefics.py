"""Idefics in transformers' layout: Flamingo's parts with Llama's norms and units (Laurençon et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.interop.hf import joined, llama, vision
from nextmove.interop.hf.config import expect, read
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed
from nextmove.models.vision_language.flamingo import WORDING
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.gated import Gated
from nextmove.nn.interleaved import Interleaved
from nextmove.nn.norm import LayerNorm
from nextmove.nn.perceiver import Perceiver

GATED = {
    "cross_branch.norm": "input_layernorm",
    "cross_branch.gate": "alpha_cross_attn",
    "cross.in_proj_weight": "cross_attn.qkv_proj.weight",
    "cross.q_proj_weight": "cross_attn.q_proj.weight",
    "cross.k_proj_weight": "cross_attn.k_proj.weight",
    "cross.v_proj_weight": "cross_attn.v_proj.weight",
    "cross.query_norm": "cross_attn.q_layer_norm",
    "cross.key_norm": "cross_attn.k_layer_norm",
    "cross.out_proj": "cross_attn.o_proj",
    "feedforward_branch.norm": "post_attention_layernorm",
    "feedforward_branch.gate": "alpha_dense",
    "feedforward.up": "mlp.gate_up_proj",
    "feedforward.down": "mlp.down_proj",
}
LAYER = {
    "cross_branch.norm": "0.latents_layer_norm",
    "cross.in_proj_weight": "0.qkv_proj.weight",
    "cross.query_norm": "0.q_layer_norm",
    "cross.key_norm": "0.k_layer_norm",
    "cross.out_proj": "0.output_proj",
    "feedforward_branch.norm": "1.ln",
    "feedforward.up": "1.fc",
    "feedforward.down": "1.c_proj",
}
LLAMA = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "rms_norm_eps")
"""Keys that mean what they mean in Llama's config.json."""


@dataclass(frozen=True)
class PerceiverConfig:
    """perceiver_config of a config.json."""

    use_resampler: bool = False
    resampler_n_latents: int = 64
    resampler_depth: int = 6
    resampler_n_heads: int = 16
    resampler_head_dim: int = 96
    qk_layer_norms_perceiver: bool = False

    @property
    def resampler(self) -> Perceiver:
        """The same in our words."""
        norm = LayerNorm() if self.qk_layer_norms_perceiver else None
        heads = Heads(self.resampler_n_heads, head_dim=self.resampler_head_dim, bias=False, out_bias=False, norm=norm)
        units = DenseMlp(activation="relu", bias=False)
        return Perceiver(self.resampler_n_latents, self.resampler_depth, heads, units)


@dataclass(frozen=True)
class IdeficsConfig:
    """config.json, with the defaults of its class."""

    vocab_size: int = 32000
    additional_vocab_size: int = 0
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    cross_layer_interval: int = 1
    qk_layer_norms: bool = False
    use_resampler: bool = False
    alpha_type: str = "float"
    max_position_embeddings: int = 2048
    max_sequence_length: int | None = None
    tie_word_embeddings: bool = False
    perceiver_config: dict[str, Any] = field(default_factory=dict)
    vision_config: dict[str, Any] = field(default_factory=dict)
    image_token_id: int | None = None
    """The id of an image; by default the second that was added to Llama's."""


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The model of a folder; raises as `joined.load`."""
    return joined.load(folder, join, dtype)


def join(data: Mapping[str, Any]) -> joined.Joined:
    """The model of a config.json and where its tensors go."""
    training = ("freeze_", "alpha_initializer", "alphas_initializer", "dropout")
    aside = tuple(key for key in data if key.startswith(training))
    config, more = read(IdeficsConfig, {key: value for key, value in data.items() if key not in aside})
    expect("alpha_type", config.alpha_type, "float", "vector")
    own, _ = read(PerceiverConfig, config.perceiver_config)
    family = llama.family({**{key: getattr(config, key) for key in LLAMA}, "vocab_size": config.vocab_size})
    tower = vision.tower(config.vision_config, default="idefics_vision")
    resampler = own.resampler if config.use_resampler else None
    gated = _gated(config, family.trunk.norm, family.trunk.feedforward, tower.width)
    trunk, classes = replace(family.trunk, gated=gated), config.vocab_size + config.additional_vocab_size
    latents = tower.tokens if resampler is None else resampler.latents
    image = config.vocab_size + 1 if config.image_token_id is None else config.image_token_id
    decoder = Autoregressive(Interleaved(trunk, latents, image), classes=classes, start=False)
    model = Reader(
        PairSpec(tower.image, tower.image, classes, config.max_position_embeddings),
        tower=tower.build(),
        bridge=nn.Identity() if resampler is None else resampler.build(tower.width),
        decoder=decoder.build(shape=(config.max_position_embeddings,), context=ContextSpec(token=tower.width)),
        wording=WORDING,
    )
    parts = (
        _text(config, family, tower.width),
        joined.Part("vision_model", "tower", vision.foreign, lambda c: vision.pack(c, tower)),
        *([] if resampler is None else [_resampler(resampler, tower.width)]),
    )
    return joined.Joined("idefics", config, model, parts, (*aside, *more), canonical)


def _text(config: IdeficsConfig, family: Family, source: int) -> joined.Part:
    """The language model with its gated blocks, which attend to tokens `source` wide."""

    def pack(checkpoint: Checkpoint) -> None:
        family.pack(checkpoint, family.config)
        _pack_text(checkpoint, config, source)

    def foreign(name: str) -> str | None:
        if not name.startswith("stream.gated."):
            return family.foreign(name)
        index, _, rest = name.removeprefix("stream.gated.").partition(".")
        inside = renamed(rest, GATED)
        layer = int(index) // config.cross_layer_interval
        return None if inside is None else f"gated_cross_attn_layers.{layer}.{inside}"

    return joined.Part("text", "decoder.net.language", foreign, pack)


def _resampler(config: Perceiver, width: int) -> joined.Part:
    inner = config.heads.n_heads * config.heads.head_dim

    def pack(checkpoint: Checkpoint) -> None:
        for layer in range(config.layers):
            name = f"blocks.{layer}.0"
            shapes = {f"{name}.{part}_proj.weight": (inner, width) for part in "qkv"}
            checkpoint.pack(f"{name}.qkv_proj.weight", shapes)

    return joined.Part("perceiver_resampler", "bridge", resampler_name, pack)


def _gated(config: IdeficsConfig, norm: Any, feedforward: Any, source: int) -> Gated:
    count = config.num_attention_heads
    own = Heads(
        count, head_dim=config.hidden_size // count, bias=False, out_bias=False,
        norm=norm if config.qk_layer_norms else None,
    )  # fmt: skip
    channels = config.alpha_type == "vector"
    return Gated(source, config.cross_layer_interval, 0, own, feedforward, norm, channels)


def canonical(name: str) -> str:
    """Names as `join` has them."""
    name = name.removeprefix("model.")
    return name if name.startswith(("perceiver_resampler.", "vision_model.")) else f"text.{name}"


def resampler_name(name: str) -> str | None:
    """The name of one of the resampler's tensors."""
    part, _, rest = name.partition(".")
    index, _, inside = rest.partition(".")
    if part == "media_norms":
        return f"blocks.{index}.0.context_layer_norm.{inside}"
    if part != "blocks":
        return renamed(name, {"latents": "latents", "norm": "layer_norm"})
    found = renamed(inside, LAYER)
    return None if found is None else f"blocks.{index}.{found}"


def _pack_text(checkpoint: Checkpoint, config: IdeficsConfig, source: int) -> None:
    """Rows of added ids behind the others, and the gated blocks."""
    width, added = config.hidden_size, config.additional_vocab_size
    if added:
        for name, more in (("embed_tokens", "additional_embedding"), ("lm_head", "additional_fc")):
            rows = {f"{name}.weight": (config.vocab_size, width), f"{name}.{more}.weight": (added, width)}
            checkpoint.pack(f"{name}.weight", rows)
    for i in range(-(-config.num_hidden_layers // config.cross_layer_interval)):
        block = f"gated_cross_attn_layers.{i}"
        for gate in ("alpha_cross_attn", "alpha_dense"):
            if f"{block}.{gate}" in checkpoint.tensors:
                checkpoint.tensors[f"{block}.{gate}"] = checkpoint.tensors[f"{block}.{gate}"].flatten()
        units = {f"{block}.mlp.{part}_proj.weight": (config.intermediate_size, width) for part in ("gate", "up")}
        checkpoint.pack(f"{block}.mlp.gate_up_proj.weight", units)
        if source == width:
            shapes = {f"{block}.cross_attn.{part}_proj.weight": (width, width) for part in "qkv"}
            checkpoint.pack(f"{block}.cross_attn.qkv_proj.weight", shapes)
