"""OpenFlamingo's layout: a resampler, and gated blocks inside the layers of a language model (Awadalla et al. 2023).

The tower is not in the file: what the resampler reads is given (`Reader.shown`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.interop.hf import joined
from nextmove.interop.hf.config import read
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed
from nextmove.models.vision_language.flamingo import WORDING
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.attention import Heads
from nextmove.nn.gated import Gated
from nextmove.nn.interleaved import Interleaved
from nextmove.nn.perceiver import Perceiver

GATED = {
    "cross_branch.norm": "attn.norm",
    "cross_branch.gate": "attn_gate",
    "cross.in_proj_weight": "attn.to_qkv.weight",
    "cross.q_proj_weight": "attn.to_q.weight",
    "cross.k_proj_weight": "attn.to_k.weight",
    "cross.v_proj_weight": "attn.to_v.weight",
    "cross.out_proj": "attn.to_out",
    "feedforward_branch.norm": "ff.0",
    "feedforward_branch.gate": "ff_gate",
    "feedforward.up": "ff.1",
    "feedforward.down": "ff.3",
}
RESAMPLER = {"latents": "latents", "frames": "frame_embs", "images": "media_time_embs", "norm": "norm"}
LAYER = {
    "cross_branch.norm": "0.norm_latents",
    "cross.in_proj_weight": "0.to_qkv.weight",
    "cross.out_proj": "0.to_out",
    "feedforward_branch.norm": "1.0",
    "feedforward.up": "1.1",
    "feedforward.down": "1.3",
}


@dataclass(frozen=True)
class FlamingoConfig:
    """config.json, with OpenFlamingo's defaults."""

    media_token_id: int
    text: dict[str, Any] = field(default_factory=dict)
    vision_dim: int = 1024
    perceiver_depth: int = 6
    perceiver_heads: int = 8
    perceiver_dim_head: int = 64
    num_latents: int = 64
    max_num_media: int | None = None
    max_num_frames: int | None = None
    cross_attn_every_n_layers: int = 1
    cross_attn_heads: int = 8
    cross_attn_dim_head: int = 64


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The model of a folder; raises as `joined.load`."""
    return joined.load(folder, join, dtype)


def join(data: Mapping[str, Any]) -> joined.Joined:
    """The model of a config.json and where its tensors go."""
    config, aside = read(FlamingoConfig, data)
    family = joined.family_of(data, config.text, default="llama", key="text")
    every = config.cross_attn_every_n_layers
    heads = Heads(config.cross_attn_heads, head_dim=config.cross_attn_dim_head, bias=False, out_bias=False)
    gated = Gated(config.vision_dim, every, every - 1, heads)
    trunk = replace(family.trunk, gated=gated)
    resampler = Perceiver(
        config.num_latents,
        config.perceiver_depth,
        Heads(config.perceiver_heads, head_dim=config.perceiver_dim_head, bias=False, out_bias=False),
        frames=config.max_num_frames or 0,
        images=config.max_num_media or 0,
    )
    net = Interleaved(trunk, config.num_latents, config.media_token_id)
    decoder = Autoregressive(net, classes=family.classes, start=False)
    model = Reader(
        PairSpec(224, 224, family.classes, family.length, images=config.max_num_media or 1),
        tower=None,
        bridge=resampler.build(config.vision_dim),
        decoder=decoder.build(shape=(family.length,), context=ContextSpec(token=config.vision_dim)),
        wording=WORDING,
    )

    def pack(checkpoint: Checkpoint) -> None:
        family.pack(checkpoint, family.config)
        for layer in gated.blocks(trunk.width, trunk.layers):
            name = f"{family.layers}.{layer}.gated_cross_attn_layer.attn"
            _pack_attention(checkpoint, name, heads, trunk.width, gated.source)

    language = joined.Part("language_model", "decoder.net.language", of_language(family), pack, ("lm_head.",))
    width, own = config.vision_dim, resampler.heads

    def pack_resampler(checkpoint: Checkpoint) -> None:
        for layer in range(config.perceiver_depth):
            _pack_attention(checkpoint, f"layers.{layer}.0", own, width, width)

    parts = (language, joined.Part("perceiver", "bridge", resampler_name, pack_resampler))
    return joined.Joined("flamingo", config, model, parts, aside, canonical)


def canonical(name: str) -> str:
    """Names as `join` has them: the language model's own layers are wrapped in the file."""
    name = name.replace(".decoder_layer.", ".", 1)
    for inside in ("lang_encoder.model.", "lang_encoder.transformer."):
        name = name.replace(inside, "language_model.", 1)
    return name.replace("lang_encoder.lm_head.", "lm_head.", 1)


def of_language(family: Family) -> Callable[[str], str | None]:
    """The names of the language model's tensors, those of the gated blocks among its layers."""

    def foreign(name: str) -> str | None:
        if not name.startswith("stream.gated."):
            return family.foreign(name)
        index, _, rest = name.removeprefix("stream.gated.").partition(".")
        inside = renamed(rest, GATED)
        return None if inside is None else f"{family.layers}.{index}.gated_cross_attn_layer.{inside}"

    return foreign


def resampler_name(name: str) -> str | None:
    """The name of one of the resampler's tensors."""
    part, _, rest = name.partition(".")
    index, _, inside = rest.partition(".")
    if part == "media_norms":
        return f"layers.{index}.0.norm_media.{inside}"
    if part != "blocks":
        return renamed(name, RESAMPLER)
    found = renamed(inside, LAYER)
    return None if found is None else f"layers.{index}.{found}"


def _pack_attention(checkpoint: Checkpoint, name: str, heads: Heads, width: int, source: int) -> None:
    """Queries apart and keys with values in the file; all in one tensor, or all apart, in ours."""
    inner = heads.n_heads * heads.head_dim
    if source == width:
        parts = {f"{name}.to_q.weight": (inner, width), f"{name}.to_kv.weight": (2 * inner, width)}
        checkpoint.pack(f"{name}.to_qkv.weight", parts)
    else:
        checkpoint.split(f"{name}.to_kv.weight", {f"{name}.to_k.weight": inner, f"{name}.to_v.weight": inner})
