"""Llama's layout: every matrix apart, rotary positions, gated units, no biases (Touvron et al. 2023; SmolLM2).

Qwen2, Gemma and their successors keep its names, so `named` and `pack` serve them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nextmove.config import ConfigError
from nextmove.interop.hf.config import activation, expect, read, rotary
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm

NAMES = {"embedding": "embed_tokens", "norm": "norm", "head": "lm_head"}
BLOCK = {
    "attention_branch.norm": "input_layernorm",
    "feedforward_branch.norm": "post_attention_layernorm",
    "attention.in_proj_weight": "self_attn.qkv_proj.weight",
    "attention.in_proj_bias": "self_attn.qkv_proj.bias",
    "attention.out_proj": "self_attn.o_proj",
    "feedforward.up": "mlp.gate_up_proj",
    "feedforward.down": "mlp.down_proj",
}


class Layout(Protocol):
    """What `pack` asks of a family's configuration."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def heads(self) -> Heads: ...


@dataclass(frozen=True)
class LlamaConfig:
    """config.json, with the defaults of its class."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    max_sequence_length: int | None = None
    """Of the first conversions: the positions once more."""
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_interleaved: bool = False
    pretraining_tp: int = 1
    """Cuts matrix products into pieces; the result is the same."""
    attention_bias: bool = False
    mlp_bias: bool = False
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = False

    @property
    def heads(self) -> Heads:
        """Their number and width, without biases."""
        heads = heads_of(self.hidden_size, self.num_attention_heads, self.num_key_value_heads, self.head_dim)
        return replace(heads, bias=self.attention_bias, out_bias=self.attention_bias)


def heads_of(width: int, count: int, shared: int | None, head: int | None) -> Heads:
    """Heads without biases; raises ConfigError where the numbers do not divide."""
    own, rest = divmod(width, count)
    if rest and head is None:
        raise ConfigError(f"config.json: num_attention_heads: expected a divisor of hidden_size {width}, found {count}")
    shared = shared or count
    if count % shared:
        raise ConfigError(f"config.json: num_key_value_heads: expected a divisor of {count}, found {shared}")
    return Heads(count, shared, head or own, bias=False, out_bias=False)


def family(data: Mapping[str, Any]) -> Family:
    """The network of a config.json and where its tensors go."""
    config, aside = read(LlamaConfig, data)
    if config.max_sequence_length is not None:
        expect("max_sequence_length", config.max_sequence_length, config.max_position_embeddings)
    expect("rope_interleaved", config.rope_interleaved, False)
    expect("is_encoder_decoder", config.is_encoder_decoder, False)
    trunk = Gpt(
        config.hidden_size,
        config.num_hidden_layers,
        config.heads,
        positions="rotary",
        rotary=rotary(config.rope_theta, config.rope_scaling, config.rope_parameters),
        norm=RmsNorm(config.rms_norm_eps),
        feedforward=GatedMlp(config.intermediate_size, activation("hidden_act", config.hidden_act), config.mlp_bias),
        head="tied" if config.tie_word_embeddings else "plain",
    )
    length, classes = config.max_position_embeddings, config.vocab_size
    return Family("llama", config, trunk, length, classes, aside, foreign, pack)


def named(name: str, block: Mapping[str, str]) -> str | None:
    """A tensor of our network under the file's name, packed ones under a name of their own."""
    name = name.removeprefix("stream.")
    part, _, rest = name.partition(".")
    if part != "blocks":
        return renamed(name, NAMES)
    index, _, rest = rest.partition(".")
    inside = renamed(rest, block)
    return None if inside is None else f"layers.{index}.{inside}"


def foreign(name: str) -> str | None:
    """A tensor of our network under Llama's name."""
    return named(name, BLOCK)


def pack(checkpoint: Checkpoint, config: Layout) -> None:
    """Brings the tensors into our shapes."""
    checkpoint.shorten("model.")
    checkpoint.ignore(".rotary_emb.inv_freq", "frequencies of the rotary positions, which are computed")
    if config.tie_word_embeddings:
        checkpoint.tie("lm_head.weight", "embed_tokens.weight")
    heads, width, hidden = config.heads, config.hidden_size, config.intermediate_size
    mlp_bias = getattr(config, "mlp_bias", False)
    queries, pairs = heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim
    for layer in range(config.num_hidden_layers):
        attention, units = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        rows = {f"{attention}.q_proj": queries, f"{attention}.k_proj": pairs, f"{attention}.v_proj": pairs}
        gates = {f"{units}.gate_proj": hidden, f"{units}.up_proj": hidden}
        for whole, parts, bias in (
            (f"{attention}.qkv_proj", rows, heads.bias),
            (f"{units}.gate_up_proj", gates, mlp_bias),
        ):
            checkpoint.pack(f"{whole}.weight", {f"{name}.weight": (out, width) for name, out in parts.items()})
            if bias:
                checkpoint.pack(f"{whole}.bias", {f"{name}.bias": (out,) for name, out in parts.items()})
