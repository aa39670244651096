"""MPT's layout: scores fall with distance (ALiBi), no biases, one matrix of queries, keys and values (MosaicML 2023).

`mosaic_gpt` is what the same models were called before (MPT-1B): other keys and names, norms of queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextmove.config import ConfigError
from nextmove.interop.hf.config import expect, read, within
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.hf.tower import named
from nextmove.nn import Gpt
from nextmove.nn.alibi import Alibi
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm

NAMES = {"stream.norm": "norm_f", "embedding": "wte"}
BLOCKS = "blocks"
BLOCK = {
    "attention_branch.norm": "norm_1",
    "attention.in_proj_weight": "attn.Wqkv.weight",
    "attention.query_norm": "attn.q_ln",
    "attention.key_norm": "attn.k_ln",
    "attention.out_proj": "attn.out_proj",
    "feedforward_branch.norm": "norm_2",
    "feedforward.up": "ffn.up_proj",
    "feedforward.down": "ffn.down_proj",
}
OLDER = {
    "ln_1": "norm_1",
    "ln_2": "norm_2",
    "ln_f": "norm_f",
    "mlp.mlp_up": "ffn.up_proj",
    "mlp.mlp_down": "ffn.down_proj",
}
"""What stands in the names of `mosaic_gpt`'s tensors -> what stands in those of today."""


@dataclass(frozen=True)
class AttentionConfig:
    """What config.json has at `attn_config`, with the defaults of its class."""

    attn_type: str = "multihead_attention"
    clip_qkv: float | None = None
    softmax_scale: float | None = None
    prefix_lm: bool = False
    qk_ln: bool = False
    attn_uses_sequence_id: bool = False
    alibi: bool = True
    alibi_bias_max: float = 8


@dataclass(frozen=True)
class MptConfig:
    """config.json, with the defaults of its class."""

    d_model: int = 2048
    n_heads: int = 16
    n_layers: int = 24
    expansion_ratio: int = 4
    max_seq_len: int = 2048
    vocab_size: int = 50368
    layer_norm_epsilon: float = 1e-5
    learned_pos_emb: bool = True
    """Without effect beside ALiBi."""
    attn_config: dict[str, Any] | None = None
    logit_scale: float | str | None = None
    no_bias: bool = True
    norm_type: str = "low_precision_layernorm"
    """Low precision: that of the rest under autocast; in one dtype it is a layer norm."""
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class MosaicConfig:
    """config.json of `mosaic_gpt`, with the defaults of its class."""

    d_model: int = 2048
    n_heads: int = 16
    n_layers: int = 24
    mlp_ratio: int = 4
    max_seq_len: int = 2048
    vocab_size: int = 50368
    attn_qk_ln: bool = False
    attn_clip_qkv: float | None = None
    softmax_scale: float | None = None
    prefix_lm: bool = False
    attn_uses_sequence_id: bool = False
    alibi: bool = False
    alibi_bias_max: float = 8
    logit_scale: float | str | None = None
    no_bias: bool = False
    low_precision_layernorm: bool = True
    norm_type: str = "low_precision_layernorm"
    multiquery_attention: bool = False


def family(data: Mapping[str, Any]) -> Family:
    """The network of a config.json and where its tensors go."""
    config, aside = read(MptConfig, data)
    attention, more = within(AttentionConfig, data, "attn_config")
    expect("attn_config.attn_type", attention.attn_type, "multihead_attention")
    expect("tie_word_embeddings", config.tie_word_embeddings, True)
    return _family("mpt", config, attention, (*aside, *(f"attn_config.{key}" for key in more)))


def family_mosaic(data: Mapping[str, Any]) -> Family:
    """The same of a config.json of `mosaic_gpt`."""
    own, aside = read(MosaicConfig, data)
    expect("multiquery_attention", own.multiquery_attention, False)
    if own.n_heads & (own.n_heads - 1):
        # Slopes of other numbers were another series before they became those of the paper, and no file says which.
        raise ConfigError(f"config.json: n_heads: expected a power of two in mosaic_gpt, found {own.n_heads}")
    config = MptConfig(
        own.d_model, own.n_heads, own.n_layers, own.mlp_ratio, own.max_seq_len, own.vocab_size,
        logit_scale=own.logit_scale, no_bias=own.no_bias, norm_type=own.norm_type,
    )  # fmt: skip
    attention = AttentionConfig(
        clip_qkv=own.attn_clip_qkv, softmax_scale=own.softmax_scale, prefix_lm=own.prefix_lm, qk_ln=own.attn_qk_ln,
        attn_uses_sequence_id=own.attn_uses_sequence_id, alibi=own.alibi, alibi_bias_max=own.alibi_bias_max,
    )  # fmt: skip
    return _family("mosaic_gpt", config, attention, aside)


def _family(name: str, config: MptConfig, attention: AttentionConfig, aside: tuple[str, ...]) -> Family:
    expect("alibi", attention.alibi, True)
    expect("no_bias", config.no_bias, True)
    expect("norm_type", config.norm_type, "low_precision_layernorm", "layernorm")
    for key, found in (("clip_qkv", attention.clip_qkv), ("logit_scale", config.logit_scale)):
        expect(key, found, None)
    for key in ("prefix_lm", "attn_uses_sequence_id"):
        expect(key, getattr(attention, key), False)
    norm = LayerNorm(config.layer_norm_epsilon, bias=False)
    heads = Heads(
        config.n_heads, bias=False, out_bias=False, scale=attention.softmax_scale or 0.0,
        norm=LayerNorm(bias=False) if attention.qk_ln else None, norm_whole=attention.qk_ln,
    )  # fmt: skip
    trunk = Gpt(
        config.d_model,
        config.n_layers,
        heads,
        positions="alibi",
        alibi=Alibi(attention.alibi_bias_max),
        norm=norm,
        feedforward=DenseMlp(config.expansion_ratio * config.d_model, "gelu", bias=False),
        head="tied",
    )
    return Family(name, config, trunk, config.max_seq_len, config.vocab_size, aside, foreign, pack, BLOCKS)


def foreign(name: str) -> str | None:
    """A tensor of our network under MPT's name."""
    return named(name, NAMES, BLOCKS, BLOCK)


def pack(checkpoint: Checkpoint, config: MptConfig) -> None:
    """Brings the tensors into our shapes."""
    checkpoint.shorten("transformer.")
    checkpoint.respell(_today)
    checkpoint.tie("lm_head.weight", "wte.weight")


def _today(name: str) -> str:
    for older, today in OLDER.items():
        name = name.replace(older, today)
    return name
