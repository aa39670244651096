"""A pi0 or pi0.5 of ours as a config.json of LeRobot's, or every reason why there is none: `composed` backwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from nextmove.config import ConfigError
from nextmove.decoders import Flow
from nextmove.decoders.times import Beta
from nextmove.encoders.framed import Framed
from nextmove.encoders.reading import Reading
from nextmove.interop.lerobot.config import ACTION, STATE, Feature
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.pi.composed import WORDS
from nextmove.interop.pi.config import KINDS, VARIANTS, Pi0Config, Sizes, Stack
from nextmove.models.policy import Policy
from nextmove.models.policy.pi0 import flow
from nextmove.models.policy.pi05 import TOLD
from nextmove.nn import Expert, Gpt
from nextmove.nn.attention import as_heads


def described(policy: Policy) -> Pi0Config:
    """The config; raises ConfigError with all that LeRobot has no place for."""
    refused, encoder, decoder = Refused("export"), policy.encoder, policy.decoder
    reading, own = getattr(encoder, "config", None), getattr(decoder, "config", None)
    if not isinstance(reading, Reading) or not isinstance(own, Flow) or not isinstance(own.trunk, Expert):
        raise refused.problem("a policy that is neither pi0 nor pi0.5")
    five = reading.state == "words"
    _check_prefix(reading, five, refused)
    usual = flow(own.trunk)
    for field in ("path", "target", "drop", "min_snr", "pairing", "prefix"):
        refused.unless(getattr(own, field) == getattr(usual, field), f"decoder.{field} {getattr(own, field)!r}")
    refused.unless(isinstance(own.times, Beta), f"decoder.times {own.times!r}; train with Beta")
    refused.unless(own.trunk.time == ("adaptive" if five else "token"), f"decoder.trunk.time {own.trunk.time!r}")
    refused.unless(not five or own.trunk.last_gate, "no rows for the last gate; train with --trunk.last-gate")
    refused.unless(not own.trunk.layers and own.trunk.joint_every == 1, "an expert that reads other layers")
    codec: Any = policy.codec
    refused.unless(not codec.per_step, "a scale for each step; train with --recipe.actions.no-per-step")
    relative = codec.relative
    fits = relative.plain or (relative.space == "relative" and not relative.poses and relative.frame is None)
    refused.unless(fits, f"actions {codec.space}; train with --recipe.actions.space absolute")
    refused.unless(codec.pad + codec.relative.made >= policy.spec.action, "actions that are not padded")
    refused.check()
    return _config(policy, reading, own, "pi05" if five else "pi0")


def _check_prefix(reading: Reading, five: bool, refused: Refused) -> None:
    usual = Reading(reading.language)
    for field in (
        "values", "framed", "image_scale", "front", "state_place", "order", "read", "around", "absent", "planner"
    ):  # fmt: skip
        found, expected = getattr(reading, field), getattr(usual, field)
        refused.unless(found == expected, f"encoder.{field} {found!r}; train with {expected!r}")
    assert usual.framed == Framed()
    refused.unless(five or reading.state == "vector", f"the state shown as {reading.state!r}")
    told = TOLD if five else WORDS
    refused.unless(reading.prompt.template == told, f"the prompt {reading.prompt.template!r}; train with {told!r}")
    refused.unless(reading.prompt.clean == five, "words that are cleaned otherwise")
    refused.unless(reading.prompt.classes > 0, "words read as bytes; train with --tokenizer FILE")
    refused.unless(len(reading.states) == 1, f"several states {reading.states}")


def _config(policy: Policy, reading: Reading, own: Flow, kind: str) -> Pi0Config:
    decoder: Any = policy.decoder
    codec: Any = policy.codec
    trunk: Any = own.trunk
    times: Any = own.times
    common = shared(policy, reading)
    return KINDS[kind](
        type=kind,
        paligemma_variant=_variant(reading.language.width, reading.language, "gemma_2b"),
        action_expert_variant=_variant(trunk.width, trunk, "gemma_300m"),
        max_state_dim=reading.state_width or max(32, common["input_features"][STATE].shape[0]),
        max_action_dim=policy.spec.action + codec.pad,
        num_inference_steps=decoder.sampler.steps,
        time_sampling_beta_alpha=times.power,
        time_sampling_scale=1 - times.floor,
        time_sampling_offset=times.floor,
        min_period=trunk.periods[0],
        max_period=trunk.periods[1],
        **common,
    )


def shared(policy: Policy, reading: Reading) -> dict[str, Any]:
    """The fields of config.json that pi0, pi0.5 and pi0-FAST have in common."""
    codec: Any = policy.codec
    inputs: dict[str, Feature] = {}
    for name, feature in policy.encoder.inputs.items():
        if feature.type == "image":
            inputs[name] = Feature("VISUAL", (3, *feature.shape[:2]))
        elif feature.type == "state":
            inputs[STATE] = Feature("STATE", feature.shape)
    relative = codec.relative.space == "relative"
    kept = tuple(n for n, c in zip(policy.spec.action_names, codec.relative.columns, strict=False) if c < 0)
    return {
        "input_features": inputs,
        "output_features": {ACTION: Feature("ACTION", (policy.spec.action,))},
        "device": "cpu",
        "push_to_hub": False,
        "chunk_size": policy.timing.horizon,
        "n_action_steps": policy.timing.n_action_steps,
        "use_relative_actions": relative,
        "relative_exclude_joints": kept if relative else ("gripper",),
        "action_feature_names": policy.spec.action_names or None,
        "image_resolution": (reading.towers[0].image,) * 2,
        "normalization_mapping": {
            "VISUAL": "IDENTITY", "STATE": reading.state_scaling.upper(), "ACTION": codec.scale.mode.upper()
        },
        "tokenizer_max_length": reading.prompt.length,
    }  # fmt: skip


def check_named(policy: Policy) -> None:
    """Raises ConfigError for sizes that LeRobot has no name for, which it reads no other of."""
    encoder, decoder = cast(Any, policy.encoder), cast(Any, policy.decoder)
    reading, usual, trunk = encoder.config, Sizes(), getattr(decoder.config, "trunk", None)
    found = [_stack(net, reading) for net in (reading.language, trunk) if isinstance(net, Gpt | Expert)]
    tower = replace(reading.towers[0], image=usual.tower.image)
    ids = reading.ids or reading.prompt.classes
    if found == [usual.language, usual.expert][: len(found)] and tower == usual.tower and ids == usual.ids:
        return
    raise ConfigError(
        f"export: LeRobot has names for one size of this policy ({', '.join(VARIANTS)}; {usual.ids} ids), found widths "
        f"{[one.width for one in found]} and {ids} ids; train with --size published --tokenizer FILE"
    )


def _stack(net: Any, reading: Reading) -> Stack:
    """Sizes of a language model or an expert, whose keys and values are as the language model's."""
    own = as_heads(reading.language.heads).resolved(reading.language.width)
    count, hidden = net.layers or reading.language.layers, net.feedforward.hidden
    return Stack(net.width, count, hidden, as_heads(net.heads).n_heads, own.n_kv_heads, own.head_dim)


def _variant(width: int, net: Any, default: str) -> str:
    """The name of these sizes; sizes that have no name go under the usual one, as LeRobot has names alone."""
    heads = as_heads(net.heads)
    found = Stack(width, net.layers or VARIANTS[default].layers, net.feedforward.hidden, heads.n_heads)
    return next((name for name, known in VARIANTS.items() if known == found), default)
