"""GPT-2's layout: matrices are stored [in, out], queries, keys and values packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextmove.interop.hf.config import activation, expect, read
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm

MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
NAMES = {
    "embedding": "wte",
    "position": "wpe.weight",
    "blocks": "h",
    "norm": "ln_f",
    "head": "lm_head",
}
BLOCK = {
    "attention_branch.norm": "ln_1",
    "feedforward_branch.norm": "ln_2",
    "attention.in_proj_weight": "attn.c_attn.weight",
    "attention.in_proj_bias": "attn.c_attn.bias",
    "attention.out_proj": "attn.c_proj",
    "feedforward.up": "mlp.c_fc",
    "feedforward.down": "mlp.c_proj",
}


@dataclass(frozen=True)
class Gpt2Config:
    """config.json, with the defaults of its class."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    n_ctx: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    """Half precision only; in float32 nothing changes."""
    add_cross_attention: bool = False
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True


def family(data: Mapping[str, Any]) -> Family:
    """The network of a config.json and where its tensors go."""
    config, aside = read(Gpt2Config, data)
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention", "is_encoder_decoder"):
        expect(name, getattr(config, name), False)
    trunk = Gpt(
        config.n_embd,
        config.n_layer,
        Heads(config.n_head, scale=0.0 if config.scale_attn_weights else 1.0),
        norm=LayerNorm(config.layer_norm_epsilon),
        feedforward=DenseMlp(config.n_inner or 0, activation("activation_function", config.activation_function)),
        head="tied" if config.tie_word_embeddings else "plain",
    )
    return Family("gpt2", config, trunk, config.n_positions, config.vocab_size, aside, foreign, pack, "h")


def foreign(name: str) -> str | None:
    """A tensor of our network under GPT-2's name."""
    name = name.removeprefix("stream.")
    part, _, rest = name.partition(".")
    if part != "blocks":
        return renamed(name, NAMES)
    index, _, rest = rest.partition(".")
    inside = renamed(rest, BLOCK)
    return None if inside is None else f"h.{index}.{inside}"


def pack(checkpoint: Checkpoint, config: Gpt2Config) -> None:
    """Brings the tensors into our shapes."""
    checkpoint.shorten("transformer.")
    checkpoint.ignore(".attn.bias", "the causal mask, which is computed")
    checkpoint.ignore(".attn.masked_bias", "the causal mask, which is computed")
    if config.tie_word_embeddings:
        checkpoint.tie("lm_head.weight", "wte.weight")
    checkpoint.transpose([f"h.{i}.{name}.weight" for i in range(config.n_layer) for name in MATRICES])
