"""Gemma's layouts: Llama's with scaled embeddings, gains stored less 1, and in later ones more norms, caps and windows.

Gemma (Mesnard et al. 2024), Gemma 2 (Riviere et al. 2024) and the text part of Gemma 3 (Kamath et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nextmove.config import ConfigError
from nextmove.interop.hf import llama
from nextmove.interop.hf.config import activation, expect, read, release, rotary, windows
from nextmove.interop.hf.family import Family
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm
from nextmove.nn.rope import Rotary

BLOCK2 = llama.BLOCK | {
    "attention_branch.post_norm": "post_attention_layernorm",
    "feedforward_branch.norm": "pre_feedforward_layernorm",
    "feedforward_branch.post_norm": "post_feedforward_layernorm",
}
BLOCK3 = BLOCK2 | {"attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
FULL, NEAR = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class GemmaConfig:
    """config.json, with the defaults of its class."""

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    head_dim: int = 256
    hidden_act: str | None = "gelu_pytorch_tanh"
    hidden_activation: str | None = None
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    transformers_version: str | None = None

    @property
    def heads(self) -> Heads:
        """Their number and width."""
        heads = llama.heads_of(self.hidden_size, self.num_attention_heads, self.num_key_value_heads, self.head_dim)
        return replace(heads, bias=self.attention_bias, out_bias=self.attention_bias)

    @property
    def norm(self) -> RmsNorm:
        """Of everything."""
        return RmsNorm(self.rms_norm_eps, offset=1.0)

    @property
    def act(self) -> str:
        """Name of the activation.

        The first files say "gelu" in `hidden_act` and mean its approximation, as the authors' code does and releases
        before 5 do; later ones mean what they say.
        """
        old = release({"transformers_version": self.transformers_version}) < 5
        said = "gelu_pytorch_tanh" if old and self.hidden_act == "gelu" else self.hidden_act
        return self.hidden_activation or said or "gelu_pytorch_tanh"

    @property
    def trunk(self) -> Gpt:
        """The network that all of them have in common."""
        expect("is_encoder_decoder", self.is_encoder_decoder, False)
        return Gpt(
            self.hidden_size,
            self.num_hidden_layers,
            self.heads,
            positions="rotary",
            norm=self.norm,
            feedforward=GatedMlp(self.intermediate_size, activation("hidden_act", self.act)),
            head="tied" if self.tie_word_embeddings else "plain",
            embed_scale=self.hidden_size**0.5,
        )


@dataclass(frozen=True)
class Gemma2Config(GemmaConfig):
    """config.json, with the defaults of its class."""

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    hidden_activation: str | None = "gelu_pytorch_tanh"
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: tuple[str, ...] | None = None
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0

    @property
    def heads(self) -> Heads:
        """Their number, width, scale and cap."""
        if self.query_pre_attn_scalar <= 0:
            raise ConfigError(
                f"config.json: query_pre_attn_scalar: expected more than 0, found {self.query_pre_attn_scalar}"
            )
        return replace(super().heads, scale=self.query_pre_attn_scalar**-0.5, cap=self.attn_logit_softcapping or 0.0)

    @property
    def near(self) -> list[bool]:
        """Which layers have a window where the file does not say so: the first of every two."""
        return [i % 2 == 0 for i in range(self.num_hidden_layers)]

    @property
    def trunk(self) -> Gpt:
        """The network but for its rotations."""
        own = windows(self.layer_types, self.num_hidden_layers, self.sliding_window, self.near)
        cap = self.final_logit_softcapping or 0.0
        return replace(super().trunk, place="both", windows=own, logit_cap=cap)


@dataclass(frozen=True)
class Gemma3Config(Gemma2Config):
    """config.json of the text part, with the defaults of its class."""

    vocab_size: int = 262208
    max_position_embeddings: int = 131072
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    rope_local_base_freq: float = 10000.0
    sliding_window_pattern: int = 6
    _sliding_window_pattern: int | None = None

    @property
    def heads(self) -> Heads:
        """With norms of queries and keys; raises ConfigError for capped scores, which transformers leaves out."""
        expect("attn_logit_softcapping", self.attn_logit_softcapping, None)
        return replace(super().heads, norm=self.norm)

    @property
    def near(self) -> list[bool]:
        """Which layers have a window where the file does not say so: all but the last of every six."""
        pattern = self._sliding_window_pattern or self.sliding_window_pattern
        return [(i + 1) % pattern != 0 for i in range(self.num_hidden_layers)]

    @property
    def rotations(self) -> tuple[Rotary, Rotary]:
        """Of layers that read everything, and of those with a window."""
        given = self.rope_parameters or {}
        far, near = given.get(FULL) or {}, given.get(NEAR) or {}
        theta = 1e6 if self.rope_theta is None else self.rope_theta
        return rotary(theta, self.rope_scaling, far), rotary(self.rope_local_base_freq, None, near)


def family(data: Mapping[str, Any]) -> Family:
    """The network of Gemma's config.json and where its tensors go."""
    config, aside = read(GemmaConfig, data)
    turns = rotary(config.rope_theta, config.rope_scaling, config.rope_parameters)
    return _family("gemma", config, replace(config.trunk, rotary=turns), aside, llama.BLOCK)


def family2(data: Mapping[str, Any]) -> Family:
    """The same of Gemma 2."""
    config, aside = read(Gemma2Config, data)
    turns = rotary(config.rope_theta, config.rope_scaling, config.rope_parameters)
    return _family("gemma2", config, replace(config.trunk, rotary=turns), aside, BLOCK2)


def family3(data: Mapping[str, Any]) -> Family:
    """The same of Gemma 3's text part."""
    config, aside = read(Gemma3Config, data)
    far, near = config.rotations
    trunk = replace(config.trunk, rotary=far, window_rotary=near)
    return _family("gemma3_text", config, trunk, aside, BLOCK3)


def _family(name: str, config: Any, trunk: Gpt, aside: tuple[str, ...], block: Mapping[str, str]) -> Family:
    foreign = partial(llama.named, block=block)
    return Family(name, config, trunk, config.max_position_embeddings, config.vocab_size, aside, foreign, llama.pack)
