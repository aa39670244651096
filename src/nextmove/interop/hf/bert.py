"""BERT's layout (Devlin et al. 2019), with a pooler and a head for hidden words where the file has them.

BLIP's text transformers have its blocks, with attention to the image's tokens in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.interop.hf import whole
from nextmove.interop.hf.config import activation, expect, read
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import POSITION_IDS, Packed, Tower, heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.text_encoder import Pool, TextEncoder

NAMES = {
    "embedding": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings.weight",
    "types": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "project": "pooler.dense",
}
WORDS = {
    "words.dense": "cls.predictions.transform.dense",
    "words.norm": "cls.predictions.transform.LayerNorm",
    "words.bias": "cls.predictions.bias",
}
"""The head for hidden words, beside the tower."""
BLOCK = {
    "attention.in_proj_weight": "attention.self.qkv.weight",
    "attention.in_proj_bias": "attention.self.qkv.bias",
    "attention.out_proj": "attention.output.dense",
    "attention_branch.norm": "attention.output.LayerNorm",
    "cross.in_proj_weight": "crossattention.self.qkv.weight",
    "cross.in_proj_bias": "crossattention.self.qkv.bias",
    "cross.q_proj_weight": "crossattention.self.query.weight",
    "cross.k_proj_weight": "crossattention.self.key.weight",
    "cross.v_proj_weight": "crossattention.self.value.weight",
    "cross.out_proj": "crossattention.output.dense",
    "cross_branch.norm": "crossattention.output.LayerNorm",
    "feedforward.up": "intermediate.dense",
    "feedforward.down": "output.dense",
    "feedforward_branch.norm": "output.LayerNorm",
}
ATTENTION = "attention.self.qkv query key value"
OLD = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
IGNORED = {
    **POSITION_IDS,
    "seq_relationship.weight": "of a head that tells whether two sentences follow each other",
    "seq_relationship.bias": "of a head that tells whether two sentences follow each other",
}


@dataclass(frozen=True)
class BertConfig:
    """config.json, with the defaults of its class."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    directionality: str = "bidi"
    pooler_fc_size: int | None = None
    """This and the following: of the first implementation's configs, without effect."""
    pooler_num_attention_heads: int | None = None
    pooler_num_fc_layers: int | None = None
    pooler_size_per_head: int | None = None
    pooler_type: str | None = None


def spelled(name: str) -> str:
    """Today's name of a tensor of the first conversions, whose norms have a gamma and a beta."""
    for old, new in OLD:
        name = name.replace(old, new)
    return name


def describe(
    data: Mapping[str, Any], tensors: frozenset[str] = frozenset(), *, pool: Pool | None = None
) -> whole.Whole:
    """The encoder of a config.json and, as the names in the file say, its pooler and its head.

    pool: how tokens become one vector where it is not by the pooler, which then is left aside.
    """
    config, aside = read(BertConfig, data)
    expect("is_decoder", config.is_decoder, False)
    expect("tie_word_embeddings", config.tie_word_embeddings, True)
    expect("directionality", config.directionality, "bidi")
    pooler = pool is None and any(name.endswith("pooler.dense.weight") for name in tensors)
    own = tower(config, aside, pooler=pooler, words="cls.predictions.bias" in tensors, pool=pool or "first")
    tied = (
        ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    )
    unread = (
        {} if pool is None else {f"pooler.dense.{end}": f"vectors are made by {pool}" for end in ("weight", "bias")}
    )
    return whole.Whole("bert", config, own.build, (("", "", own),), WORDS, "bert.", IGNORED | unread, tied, spelled)


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """BERT of a folder as a `TextEncoderNet`; see `whole.load`."""
    return whole.load(folder, describe, dtype)


def encoder(config: BertConfig, *, pooler: bool = False, words: bool = False, pool: Pool = "first") -> TextEncoder:
    """Our configuration; pooler, words: with the map of the first token, the head for hidden words."""
    act = activation("hidden_act", config.hidden_act)
    return TextEncoder(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.hidden_size if pooler else 0,
        pool=pool,
        feedforward=DenseMlp(config.intermediate_size, act),
        norm=LayerNorm(config.layer_norm_eps),
        place="after",
        types=config.type_vocab_size,
        embedding_norm=True,
        out_bias=True,
        out_tanh=pooler,
        words=act if words else None,
    )


def tower(
    config: BertConfig,
    aside: tuple[str, ...] = (),
    *,
    pooler: bool = False,
    words: bool = False,
    pool: Pool = "first",
) -> Tower:
    """The encoder of a configuration; the rest as of `encoder`."""
    network = encoder(config, pooler=pooler, words=words, pool=pool)

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.max_position_embeddings)

    packed = (heads(ATTENTION, config.hidden_size),)
    return Tower(config, build, network.layers, NAMES, "encoder.layer", BLOCK, packed, aside=aside)


def crossing(width: int, source: int) -> Packed:
    """Attention of tokens that are `width` wide to `source` wide ones; only equal widths are one matrix."""
    parts = tuple(f"crossattention.self.{name}" for name in ("query", "key", "value"))
    return Packed("crossattention.self.qkv", parts, width, width if source == width else 0)
