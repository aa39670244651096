"""BLIP's layout (Li et al. 2022): captioning, retrieval, or all of its pretraining with momentum copies and queues.

Names of the first implementation's files (timm's image tower) are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.decoders.distilled import Distilled
from nextmove.interop.hf import bert, whole
from nextmove.interop.hf.config import activation, expect, read, side, within
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tower import POSITION_IDS, Tower, heads
from nextmove.interop.hf.words import read_tokenizer
from nextmove.models.vision_language.blip_model import BlipModel, Marks
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.med import Med
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

SIGHT = {
    "embed": "embeddings.patch_embedding",
    "class_token": "embeddings.class_embedding",
    "places.table": "embeddings.position_embedding",
    "stream.norm": "post_layernorm",
}
SIGHT_BLOCK = {
    "attention_branch.norm": "layer_norm1",
    "attention.in_proj_weight": "self_attn.qkv.weight",
    "attention.in_proj_bias": "self_attn.qkv.bias",
    "attention.out_proj": "self_attn.projection",
    "feedforward_branch.norm": "layer_norm2",
    "feedforward.up": "mlp.fc1",
    "feedforward.down": "mlp.fc2",
}
HEAD = {
    "decoder.net.text.words.dense": "text_decoder.cls.predictions.transform.dense",
    "decoder.net.text.words.norm": "text_decoder.cls.predictions.transform.LayerNorm",
    "decoder.net.text.words.bias": "text_decoder.cls.predictions.bias",
}
PROJECTIONS = {"image_project": "vision_proj", "text_project": "text_proj", "match": "itm_head"}
TABLE, BIAS = "text_decoder.cls.predictions.decoder", "text_decoder.cls.predictions.bias"
TIED = (f"{TABLE}.weight", "text_decoder.bert.embeddings.word_embeddings.weight")
COPIES = "contrast.follower.copies."
STATE = {
    "contrast.queue.image": "image_queue",
    "contrast.queue.text": "text_queue",
    "contrast.queue.place": "queue_ptr",
    "contrast.temperature": "temp",
}
"""What else a pretraining's file holds, where it does."""
SPELLED = (
    (r"^visual_encoder(_m)?\.cls_token$", r"visual_encoder\1.embeddings.class_embedding"),
    (r"^visual_encoder(_m)?\.pos_embed$", r"visual_encoder\1.embeddings.position_embedding"),
    (r"^visual_encoder(_m)?\.patch_embed\.proj\.", r"visual_encoder\1.embeddings.patch_embedding."),
    (r"^visual_encoder(_m)?\.norm\.", r"visual_encoder\1.post_layernorm."),
    (r"^visual_encoder(_m)?\.blocks\.(\d+)\.norm(\d)\.", r"visual_encoder\1.encoder.layers.\2.layer_norm\3."),
    (r"^visual_encoder(_m)?\.blocks\.(\d+)\.attn\.proj\.", r"visual_encoder\1.encoder.layers.\2.self_attn.projection."),
    (r"^visual_encoder(_m)?\.blocks\.(\d+)\.attn\.", r"visual_encoder\1.encoder.layers.\2.self_attn."),
    (r"^visual_encoder(_m)?\.blocks\.", r"visual_encoder\1.encoder.layers."),
    (r"^visual_encoder(_m)?\.", r"vision_model\1."),
)
"""Names of the first implementation, in the order they are exchanged, and today's."""


@dataclass(frozen=True)
class VisionConfig:
    """vision_config, with the defaults of its class."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 512
    """Of a model of two towers, which this is not."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int | list[int] = 384
    patch_size: int | list[int] = 16
    num_channels: int = 3
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class TextConfig:
    """text_config, with the defaults of its class."""

    vocab_size: int = 30524
    hidden_size: int = 768
    encoder_hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 512
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    bos_token_id: int = 30522
    sep_token_id: int = 102
    label_smoothing: float = 0.0
    is_decoder: bool = True
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class BlipConfig:
    """config.json, with the defaults of its class; the last six are those of a pretraining."""

    text_config: dict[str, Any] | None = None
    vision_config: dict[str, Any] | None = None
    text_config_dict: dict[str, Any] | None = None
    vision_config_dict: dict[str, Any] | None = None
    projection_dim: int = 512
    image_text_hidden_size: int = 256
    label_smoothing: float = 0.0
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    embed_dim: int = 256
    queue_size: int = 57600
    momentum: float = 0.995
    enc_token_id: int | None = None
    bos_token_id: int | None = None
    pad_token_id: int | None = None


def describe(data: Mapping[str, Any], tensors: frozenset[str] = frozenset()) -> whole.Whole:
    """The parts that the names in the file speak of; raises ConfigError where they are those of another model."""
    config, aside = read(BlipConfig, data)
    sight, see_aside = within(VisionConfig, data, "vision_config")
    text, text_aside = within(TextConfig, data, "text_config")
    expect("text_config: encoder_hidden_size", text.encoder_hidden_size, sight.hidden_size)
    reads, writes, learns = _parts(data, tensors)
    towers = [("image.", "vision_model.", _sight(sight, see_aside))]
    names = dict(PROJECTIONS) if reads else {}
    if reads:
        towers.append(("reader.", "text_encoder.", _text(text, text_aside)))
    if learns:
        towers += [
            (f"{COPIES}image.", "vision_model_m.", _sight(sight)),
            (f"{COPIES}text.", "text_encoder_m.", _text(text)),
        ]
        names |= {f"{COPIES}{part}": f"{theirs}_m" for part, theirs in list(PROJECTIONS.items())[:2]}
        names |= {ours: theirs for ours, theirs in STATE.items() if theirs in {*tensors, "temp"}}
    if writes:
        # Of a pretraining the reader's cross-attention is the writer's, and need not come twice.
        crosses = any(name.startswith("text_decoder.") and ".crossattention." in name for name in tensors)
        towers.append(("decoder.net.text.", "text_decoder.bert.", _text(text, text_aside, crosses=crosses)))
        names |= HEAD | ({"decoder.net.table": f"{TABLE}.weight"} if learns else {})

    def build() -> BlipModel:
        return model(config, sight, text, reads=reads, writes=writes, learns=learns)

    # A pretraining's head has a table and a bias of its own, from before it was given the reader's embeddings.
    own = learns and f"{TABLE}.bias" in tensors
    tied = () if learns or not writes else (TIED, (f"{TABLE}.bias", BIAS))
    if own:
        names["decoder.net.text.words.bias"] = f"{TABLE}.bias"
    ignored = {**POSITION_IDS, **({BIAS: f"{TABLE}.bias is added in its place"} if own else {})}
    absent = {"temp": torch.tensor(Distilled.temperature)} if learns else {}
    return whole.Whole(
        "blip", config, build, tuple(towers), names, ignored=ignored, tied=tied, spelled=spelled, aside=aside,
        absent=absent,
    )  # fmt: skip


def _parts(data: Mapping[str, Any], tensors: frozenset[str]) -> tuple[bool, bool, bool]:
    """Whether it reads, writes, and learns with momentum; raises ConfigError for what is none of BLIP's models."""
    named = {spelled(name).partition(".")[0] for name in tensors}
    reads, writes, learns = (name in named for name in ("text_encoder", "text_decoder", "text_encoder_m"))
    if not (reads or writes) or (reads and writes and not learns):
        raise ConfigError(
            "config.json: architectures: expected BLIP for captions, for retrieval or its pretraining, found "
            f"{data.get('architectures')}, of {', '.join(sorted(named))}"
        )
    return reads, writes, learns


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """BLIP of a folder as a `BlipModel` with its tokenizer; see `whole.load`."""
    found = whole.load(folder, describe, dtype)
    found.model.codec = read_tokenizer(Path(folder), found.model.spec.classes)
    return found


def model(
    config: BlipConfig, sight: VisionConfig, text: TextConfig, *, reads: bool, writes: bool, learns: bool
) -> BlipModel:
    """Our model of these configurations, with the parts named."""
    size = side("image_size", sight.image_size)
    distilled = Distilled(config.momentum, config.queue_size, shared=False) if learns else None
    made = BlipModel(
        PairSpec(size, size, text.vocab_size, text.max_position_embeddings),
        image=tower(sight),
        text=med(text, own_table=learns),
        reads=reads,
        writes=writes,
        space=config.embed_dim if learns else config.image_text_hidden_size,
        distilled=distilled,
        smoothing=config.label_smoothing or text.label_smoothing,
    )
    begin = text.bos_token_id
    # The id behind the one that begins a written text, where the vocabulary was grown by both.
    join = config.enc_token_id if config.enc_token_id is not None else min(begin + 1, text.vocab_size - 1)
    made.marked = Marks(join, begin, text.sep_token_id)
    return made


def tower(config: VisionConfig) -> VisionTower:
    """Our image tower."""
    return VisionTower(
        side("image_size", config.image_size),
        side("patch_size", config.patch_size),
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        LayerNorm(config.layer_norm_eps),
        config.num_channels,
    )


def med(config: TextConfig, *, own_table: bool = False) -> Med:
    """Our text transformer."""
    return Med(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        DenseMlp(config.intermediate_size, activation("hidden_act", config.hidden_act)),
        LayerNorm(config.layer_norm_eps),
        own_table=own_table,
    )


def spelled(name: str) -> str:
    """Today's name of a tensor of the first implementation's files, or of any."""
    for old, new in SPELLED:
        name = re.sub(old, new, name)
    return bert.spelled(name)


def _sight(config: VisionConfig, aside: tuple[str, ...] = ()) -> Tower:
    network, width = tower(config), config.hidden_size
    shapes = {
        "embeddings.class_embedding": ((1, 1, width), (width,)),
        "embeddings.position_embedding": ((1, network.tokens, width), (network.tokens, width)),
    }
    return Tower(
        config, network.build, network.layers, SIGHT, "encoder.layers", SIGHT_BLOCK, shapes=shapes, aside=aside
    )


def _text(config: TextConfig, aside: tuple[str, ...] = (), *, crosses: bool = True) -> Tower:
    network = med(config).reader(config.encoder_hidden_size)

    def build() -> Any:
        return network.build(classes=config.vocab_size, length=config.max_position_embeddings)

    cross = (bert.crossing(config.hidden_size, config.encoder_hidden_size),) if crosses else ()
    packed = (heads(bert.ATTENTION, config.hidden_size), *cross)
    return Tower(config, build, network.layers, bert.NAMES, "encoder.layer", bert.BLOCK, packed, aside=aside)
