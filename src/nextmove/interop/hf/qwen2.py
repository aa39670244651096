"""Qwen2's layout: Llama's with biases of queries, keys and values, and windows in some layers (Yang et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nextmove.interop.hf.config import activation, expect, read, rotary, windows
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.llama import foreign, heads_of, pack
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm


@dataclass(frozen=True)
class Qwen2Config:
    """config.json, with the defaults of its class."""

    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: tuple[str, ...] | None = None
    use_mrope: bool = False
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = False

    @property
    def heads(self) -> Heads:
        """Their number and width."""
        heads = heads_of(self.hidden_size, self.num_attention_heads, self.num_key_value_heads, self.head_dim)
        return replace(heads, bias=True)

    @property
    def windows(self) -> tuple[int, ...]:
        """Of each layer; the number that a file states counts only where it says that windows are used."""
        layers = range(self.num_hidden_layers)
        used = self.use_sliding_window and self.sliding_window is not None
        default = [used and i >= self.max_window_layers for i in layers]
        return windows(self.layer_types, len(layers), self.sliding_window, default)


def family(data: Mapping[str, Any]) -> Family:
    """The network of a config.json and where its tensors go."""
    config, aside = read(Qwen2Config, data)
    expect("use_mrope", config.use_mrope, False)
    expect("is_encoder_decoder", config.is_encoder_decoder, False)
    trunk = Gpt(
        config.hidden_size,
        config.num_hidden_layers,
        config.heads,
        positions="rotary",
        rotary=rotary(config.rope_theta, config.rope_scaling, config.rope_parameters),
        norm=RmsNorm(config.rms_norm_eps),
        feedforward=GatedMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        head="tied" if config.tie_word_embeddings else "plain",
        windows=config.windows,
    )
    length, classes = config.max_position_embeddings, config.vocab_size
    return Family("qwen2", config, trunk, length, classes, aside, foreign, pack)
