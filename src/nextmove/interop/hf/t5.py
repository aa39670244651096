"""The encoder of T5's layout (Raffel et al. 2020); a decoder in the file is left aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.interop.hf import whole
from nextmove.interop.hf.config import activation, expect, read
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import Packed, Tower
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import RmsNorm
from nextmove.nn.relative import Relative
from nextmove.nn.text_encoder import TextEncoder

DISTANCES = "block.0.layer.0.SelfAttention.relative_attention_bias"
NAMES = {
    "embedding": "embed_tokens",
    "relative.table": DISTANCES,
    "stream.norm": "final_layer_norm",
}
BLOCK = {
    "attention_branch.norm": "layer.0.layer_norm",
    "attention.in_proj_weight": "layer.0.SelfAttention.qkv.weight",
    "attention.out_proj": "layer.0.SelfAttention.o",
    "feedforward_branch.norm": "layer.1.layer_norm",
    "feedforward.up": "layer.1.DenseReluDense.wi",
    "feedforward.down": "layer.1.DenseReluDense.wo",
}
LONGEST = 512
"""Ids that its texts are said to have; its distances have no end."""


@dataclass(frozen=True)
class T5Config:
    """config.json, with the defaults of its class."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    """Of the decoder, which is not read."""
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    dense_act_fn: str | None = None
    """This and the next: what `feed_forward_proj` says once more."""
    is_gated_act: bool | None = None
    n_positions: int = LONGEST
    scale_decoder_outputs: bool = True
    tie_word_embeddings: bool = True
    """Of the decoder's head."""
    is_decoder: bool = False
    is_encoder_decoder: bool = True

    @property
    def units(self) -> tuple[str, bool]:
        """Activation of the feed-forward parts, and whether they are gated; raises ConfigError for another rule."""
        gate, _, name = self.feed_forward_proj.rpartition("-")
        if gate not in ("", "gated"):
            raise ConfigError(
                f"config.json: feed_forward_proj: expected an activation or gated-ACTIVATION, "
                f"found {self.feed_forward_proj!r}"
            )
        name = "gelu_new" if self.feed_forward_proj == "gated-gelu" else name
        for key, said, own in (
            ("dense_act_fn", self.dense_act_fn, name), ("is_gated_act", self.is_gated_act, bool(gate))
        ):  # fmt: skip
            if said is not None:
                expect(key, said, own)
        return name, bool(gate)


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The encoder of a config.json."""
    config, aside = read(T5Config, data)
    expect("is_decoder", config.is_decoder, False)
    own = tower(config, aside)
    decoder = {
        name: "of the decoder, which is not read" for name in tensors if name.startswith(("decoder.", "lm_head."))
    }
    tied = (("shared.weight", "encoder.embed_tokens.weight"),) if tensors >= SHARED else ()
    spelled = {} if tensors >= SHARED else {"shared.weight": "encoder.embed_tokens.weight"}
    return whole.Whole(
        "t5", config, own.build, (("", "encoder.", own),), ignored=decoder, tied=tied,
        spelled=lambda name: spelled.get(name, name),
    )  # fmt: skip


SHARED = frozenset(("shared.weight", "encoder.embed_tokens.weight"))


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """T5's encoder of a folder as a `TextEncoderNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def tower(config: T5Config, aside: tuple[str, ...] = ()) -> Tower:
    """The encoder of a configuration."""
    (name, gated), count, width = config.units, config.num_heads, config.d_model
    act = activation("feed_forward_proj", name)
    network = TextEncoder(
        width,
        config.num_layers,
        Heads(count, head_dim=config.d_kv, bias=False, out_bias=False, scale=1.0),
        feedforward=GatedMlp(config.d_ff, act) if gated else DenseMlp(config.d_ff, act, bias=False),
        norm=RmsNorm(config.layer_norm_epsilon),
        relative=Relative(config.relative_attention_num_buckets, config.relative_attention_max_distance),
    )

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.n_positions)

    attention, units = "layer.0.SelfAttention", "layer.1.DenseReluDense"
    parts = tuple(f"{attention}.{part}" for part in "qkv")
    packed = [Packed(f"{attention}.qkv", parts, count * config.d_kv, width, bias=False)]
    if gated:
        packed.append(Packed(f"{units}.wi", (f"{units}.wi_0", f"{units}.wi_1"), config.d_ff, width, bias=False))
    return Tower(config, build, config.num_layers, NAMES, "block", BLOCK, tuple(packed), aside=aside)
