"""A checkpoint of pi0 or pi0.5 as a recipe of ours, and the robot that it is for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

from nextmove.codecs.scaled import Mode
from nextmove.contracts import TASK, Feature, Optim
from nextmove.decoders.times import Beta
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.interop.lerobot.config import ACTION, STATE
from nextmove.interop.pi.config import EMPTY, Pi0Config, PiShared, Sizes, Stack
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.pi0 import Pi0, flow
from nextmove.models.policy.pi05 import TOLD, Pi05
from nextmove.models.vision_language.paligemma import gemma
from nextmove.nn import Expert, Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp

WORDS = "{task}\n"
"""What pi0's language model is told."""


def robot(config: PiShared, optional: Collection[str], renamed: dict[str, str], fps: float) -> PolicySpec:
    """The robot of a config.json of LeRobot's, by the names that observations come with.

    renamed: raw name -> the config's; optional: cameras that may be absent, beside LeRobot's empty ones.
    """
    raw = {new: old for old, new in renamed.items()}
    inputs: dict[str, Feature] = {}
    for name, feature in config.cameras.items():
        absent = name.startswith(EMPTY) or name in optional or raw.get(name) in optional
        channels, height, width = feature.shape
        inputs[raw.get(name, name)] = Feature("image", (height, width, channels), optional=absent)
    inputs[raw.get(STATE, STATE)] = Feature("state", config.input_features[STATE].shape)
    inputs[TASK] = Feature("text")
    names = config.action_feature_names or ()
    return PolicySpec(inputs, config.output_features[ACTION].shape[0], fps, tuple(names))


def recipe(config: Pi0Config, sizes: Sizes, spec: PolicySpec, *, clean: bool = False, hash: str = "") -> Pi0 | Pi05:
    """The recipe; clean: the instruction loses underscores and line breaks, as openpi's pi0 does."""
    five = config.type == "pi05"
    told = Prompt(TOLD if five else WORDS, config.tokenizer_max_length, five or clean, classes=sizes.ids, hash=hash)
    own = next(name for name, feature in spec.inputs.items() if feature.type == "state")
    encoder = Reading(
        language(sizes.language),
        sizes.ids,
        (sizes.tower,),
        cameras=tuple(name for name, feature in spec.inputs.items() if feature.type == "image"),
        prompt=told,
        state="words" if five else "vector",
        states=(own,),
        state_scaling=mode(config, "STATE"),
        state_width=config.max_state_dim,
    )
    actions = replace(acted(config, own), width=config.max_action_dim)
    flows = replace(
        flow(expert(sizes.expert, config), config.num_inference_steps),
        times=Beta(config.time_sampling_beta_alpha, config.time_sampling_offset),
    )
    optim = Optim(
        config.optimizer_lr, config.optimizer_betas, config.optimizer_eps, config.optimizer_weight_decay,
        config.scheduler_warmup_steps, 32, config.optimizer_grad_clip_norm, 0.99, _frozen(config),
    )  # fmt: skip
    kind = Pi05 if five else Pi0
    return kind(Timing(1, config.chunk_size, config.n_action_steps), encoder, actions, flows, optim)


def acted(config: PiShared, own: str) -> ActionSpace:
    """The space of actions, not padded; own: the state that they may be relative to."""
    relative = config.use_relative_actions
    return ActionSpace(
        scaling=cast(Any, mode(config, "ACTION")),
        per_step=False,
        space="relative" if relative else "absolute",
        reference=own,
        keep=config.relative_exclude_joints if relative else (),
    )


def language(sizes: Stack) -> Gpt:
    """The language model of these sizes."""
    own = gemma(sizes.width, sizes.layers, sizes.heads, sizes.head, sizes.hidden)
    return replace(own, heads=Heads(sizes.heads, sizes.pairs, sizes.head, bias=False, out_bias=False))


def expert(sizes: Stack, config: Pi0Config) -> Expert:
    """The expert beside it."""
    own = Expert.pi05() if config.type == "pi05" else Expert.pi0()
    units, periods = GatedMlp(sizes.hidden, "gelu_tanh"), (config.min_period, config.max_period)
    return replace(own, width=sizes.width, heads=sizes.heads, layers=0, feedforward=units, periods=periods)


def _frozen(config: Pi0Config) -> tuple[tuple[str, float], ...]:
    """What training leaves as it is."""
    if config.train_expert_only:
        return (("encoder", 0.0),)
    return (("encoder.towers", 0.0),) if config.freeze_vision_encoder else ()


def mode(config: PiShared, kind: str) -> Mode:
    """How features of a kind are scaled."""
    return cast(Mode, config.normalization_mapping.get(kind, "IDENTITY").lower())
