"""LeRobot's SmolVLA as a recipe of ours, and the robot that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from nextmove.codecs.scaled import Mode
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature, Optim
from nextmove.encoders.prompt import Prompt
from nextmove.interop.hf import joined, vision
from nextmove.interop.hf.config import read, side
from nextmove.interop.hf.smolvlm import SmolVlmConfig
from nextmove.interop.lerobot.config import ACTION, STATE
from nextmove.interop.smolvla.config import VLM, SmolVlaConfig, hidden
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.pi0 import flow
from nextmove.models.policy.smolvla import FROZEN, SmolVla, reads
from nextmove.nn import Expert
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.rope import Rotary


@dataclass(frozen=True)
class Composed:
    """The recipe and robot of a folder, the heads of its language model, and keys that change no plans."""

    recipe: SmolVla
    spec: PolicySpec
    heads: Heads
    aside: tuple[str, ...]


def composed(
    config: SmolVlaConfig,
    vlm: Mapping[str, Any],
    *,
    ids: int,
    prompt: Prompt,
    marks: tuple[int, int] | None,
    fps: float,
    renamed: Mapping[str, str] | None = None,
) -> Composed:
    """Raises ConfigError naming the key that is wrong.

    ids: rows of the table of embeddings; marks: the ids of `config.MARKS`, where they are known; renamed: raw name ->
    the config's.
    """
    own, aside = read(SmolVlmConfig, vlm)
    family = joined.family_of(vlm, own.text_config, default="llama", tied=own.tie_word_embeddings)
    tower = vision.tower(own.vision_config, default="smolvlm_vision")
    if config.resize_imgs_with_padding is None:
        raise ConfigError("config.json: resize_imgs_with_padding: expected the tower's size, found none")
    if side("resize_imgs_with_padding", config.resize_imgs_with_padding) != tower.image:
        raise ConfigError(
            f"config.json: resize_imgs_with_padding: expected the tower's {tower.image} x {tower.image}, found "
            f"{list(config.resize_imgs_with_padding)}; of a vision-language model of another size than the published "
            f"{config.vlm_model_name}, {VLM} beside config.json says the config"
        )
    deep = family.trunk.layers
    layers = min(config.num_vlm_layers, deep) if config.num_vlm_layers > 0 else deep
    # The published code rotates by a base of its own, whatever the language model's config says.
    width, heads = family.trunk.width, family.trunk.heads
    trunk = replace(family.trunk, layers=layers, rotary=Rotary(), head="plain", embed_scale=width**0.5)
    raw = {new: old for old, new in (renamed or {}).items()}
    encoder = replace(
        reads(trunk, tower, own.scale_factor, prompt, config.max_state_dim, ids), states=(raw.get(STATE, STATE),),
        state_scaling=_mode(config, "STATE"), blanks=config.empty_cameras, around=_around(config, marks),
    )  # fmt: skip
    actions = ActionSpace(
        cast(Any, _mode(config, "ACTION")), per_step=False, space="absolute", width=config.max_action_dim,
        mask_padding=True,
    )  # fmt: skip
    recipe = SmolVla(
        Timing(1, config.chunk_size, config.n_action_steps),
        encoder,
        actions,
        flow(_expert(config, layers, width, heads, family.trunk.norm), config.num_steps),
        _optim(config),
    )
    return Composed(recipe, _spec(config, raw, fps), heads, aside)


def _mode(config: SmolVlaConfig, kind: str) -> Mode:
    """How features of a kind are scaled."""
    return cast(Mode, config.normalization_mapping.get(kind, "IDENTITY").lower())


def _expert(config: SmolVlaConfig, layers: int, width: int, heads: Heads, norm: Any) -> Expert:
    own, every = config.expert_layers(layers), config.joint_every
    narrow = int(width * config.expert_width_multiplier)
    return Expert(
        narrow, heads.n_heads, 0 if own == layers else own, feedforward=GatedMlp(hidden(narrow)), norm=norm,
        time="token", periods=(config.min_period, config.max_period), causal=True, joint_every=every,
    )  # fmt: skip


def _around(config: SmolVlaConfig, marks: tuple[int, int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not config.add_image_special_tokens:
        return (), ()
    if marks is None:
        raise ConfigError(
            "config.json: add_image_special_tokens: expected tokenizer.json in the folder, which says the ids of the "
            "tokens around an image, found none"
        )
    return marks, marks[:1]


def _optim(config: SmolVlaConfig) -> Optim:
    scales: tuple[tuple[str, float], ...] = ()
    if config.train_expert_only:
        scales = FROZEN
    elif config.freeze_vision_encoder:
        scales = (("encoder.towers", 0.0),)
    if not config.train_state_proj:
        scales = (*[pair for pair in scales if pair[0] != "encoder.state"], ("encoder.state", 0.0))
    return Optim(
        config.optimizer_lr, config.optimizer_betas, config.optimizer_eps, config.optimizer_weight_decay,
        config.scheduler_warmup_steps, 64, config.optimizer_grad_clip_norm, 0.0, scales,
    )  # fmt: skip


def _spec(config: SmolVlaConfig, raw: Mapping[str, str], fps: float) -> PolicySpec:
    """The robot by the names that observations come with; cameras may be absent where there are empty places."""
    absent = config.empty_cameras > 0
    inputs = {raw.get(n, n): Feature("image", (*s, 3), optional=absent) for n, s in config.real.items()}
    if not inputs:
        raise ConfigError("config.json: input_features: expected at least one camera, found none")
    for group, name in ((config.input_features, STATE), (config.output_features, ACTION)):
        if name not in group or len(group[name].shape) != 1:
            raise ConfigError(f"config.json: expected {name!r} of one number of dimensions, found {sorted(group)}")
    inputs[raw.get(STATE, STATE)] = Feature("state", config.input_features[STATE].shape)
    inputs[TASK] = Feature("text")
    return PolicySpec(inputs, config.output_features[ACTION].shape[0], fps)
