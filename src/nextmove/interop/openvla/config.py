"""config.json of OpenVLA's folders, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextmove.config import ConfigError
from nextmove.interop.hf import llama
from nextmove.interop.hf.config import expect, read, side
from nextmove.interop.hf.family import Family

BROUGHT = ("auto_map",)
"""Code that a folder names: it is never run, our parts stand in its place."""


@dataclass(frozen=True)
class OpenVlaConfig:
    """config.json, with the defaults of its class."""

    model_type: str = "openvla"
    vision_backbone_id: str = "siglip-vit-so400m"
    llm_backbone_id: str = "vicuna-v15-7b"
    arch_specifier: str = "no-align+gelu-mlp"
    use_fused_vision_backbone: bool | None = None
    image_resize_strategy: str = "letterbox"
    image_sizes: list[int] = field(default_factory=lambda: [224, 224])
    timm_model_ids: list[str] = field(default_factory=list)
    timm_override_act_layers: list[str | None] = field(default_factory=list)
    hf_llm_id: str = ""
    llm_max_length: int = 2048
    pad_token_id: int = 32000
    pad_to_multiple_of: int = 64
    output_projector_states: bool = False
    n_action_bins: int = 256
    norm_stats: dict[str, Any] | None = None
    text_config: dict[str, Any] = field(default_factory=dict)
    tie_word_embeddings: bool = True
    """Of the whole, which has no table of its own; the language model's says whether its head is one."""
    is_decoder: bool = False
    is_encoder_decoder: bool = False

    @property
    def fused(self) -> bool:
        """Whether two towers stand side by side."""
        found = self.use_fused_vision_backbone
        return found if found is not None else self.vision_backbone_id.startswith(("dinoclip", "dinosiglip"))


@dataclass(frozen=True)
class Described:
    """What a config.json says, checked."""

    config: OpenVlaConfig
    family: Family
    """The language model."""
    image: int
    """Side of the pictures, px."""
    vocabulary: int
    """Ids of the tokenizer, without those that pad the table of embeddings: actions are the last of them."""
    aside: tuple[str, ...]


def describe(data: Mapping[str, Any]) -> Described:
    """What a config.json says; raises ConfigError for a key that is wrong, or whose mathematics we do not have."""
    config, aside = read(OpenVlaConfig, {key: value for key, value in data.items() if key not in BROUGHT})
    expect("image_resize_strategy", config.image_resize_strategy, "resize-naive")
    if any(config.timm_override_act_layers):
        raise ConfigError(
            f"config.json: timm_override_act_layers: only towers with their own activations are supported, found "
            f"{config.timm_override_act_layers}"
        )
    text = {"vocab_size": 32000 + config.pad_to_multiple_of, **config.text_config}
    expect("text_config.model_type", text.get("model_type", "llama"), "llama")
    family = llama.family(text)
    vocabulary = family.classes - config.pad_to_multiple_of
    if vocabulary != config.pad_token_id:
        raise ConfigError(
            f"config.json: pad_token_id: expected {vocabulary}, the first id behind the tokenizer's: "
            f"text_config.vocab_size {family.classes} less the {config.pad_to_multiple_of} that pad it "
            f"(pad_to_multiple_of), found {config.pad_token_id}; actions are counted from there, so a vocabulary that "
            f"is {config.pad_to_multiple_of} too large or too small moves every action"
        )
    if not 2 < config.n_action_bins <= vocabulary:
        raise ConfigError(f"config.json: n_action_bins: expected 3 to {vocabulary}, found {config.n_action_bins}")
    return Described(config, family, side("image_sizes", config.image_sizes), vocabulary, (*aside, *BROUGHT))
