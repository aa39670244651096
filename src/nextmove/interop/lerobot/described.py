"""A policy of ours as a config.json of LeRobot's, or every reason why there is none: the way back of `parts`."""

from __future__ import annotations

from typing import Any

from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.direct import RegressionDecoder
from nextmove.decoders.latent import LatentDecoder
from nextmove.interop.legacy_rules import OverAllDecoder, ZeroLatentDecoder
from nextmove.interop.lerobot import described_act, described_diffusion
from nextmove.interop.lerobot.config import ACTION, ENV, STATE, ActConfig, DiffusionConfig, Feature, Kind
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.shown import Shown
from nextmove.models.policy import Policy
from nextmove.nn import Detr, UNet1d


def described(policy: Policy, looks: Shown, refused: Refused) -> ActConfig | DiffusionConfig:
    """The config; raises ConfigError with all that is in `refused` and does not fit besides."""
    _actions(policy, refused)
    decoder: Any = policy.decoder
    if isinstance(decoder, OverAllDecoder):
        decoder = decoder.inner
    if isinstance(decoder, DiffusionDecoder) and isinstance(decoder.config.trunk, UNet1d):
        described_diffusion.check(policy, decoder, looks, refused)
        refused.check()
        return described_diffusion.config(policy, decoder, looks, _common(policy, looks))
    if isinstance(decoder, LatentDecoder | ZeroLatentDecoder):
        inner: Any = decoder.inner
        inner = inner.inner if isinstance(inner, OverAllDecoder) else inner
        if isinstance(inner, RegressionDecoder) and isinstance(inner.config.trunk, Detr):
            described_act.check(policy, decoder, inner, looks, refused)
            refused.check()
            return described_act.config(policy, decoder, inner, looks, _common(policy, looks))
    name = type(decoder).__name__.removesuffix("Decoder")
    raise refused.problem(f"the decoder {name}; what it has of our systems is act and diffusion-policy")


def _actions(policy: Policy, refused: Refused) -> None:
    codec: Any = policy.codec
    option = "--recipe.actions"
    rotations = f" and, where the data hold rotations, {option}.rotation none"
    refused.unless(codec.relative.plain, f"actions {codec.space}; train with {option}.space absolute{rotations}")
    refused.unless(not codec.per_step, f"statistics for each step of the horizon; train with {option}.no-per-step")
    refused.unless(codec.bins is None, f"actions in bins; train with {option}.bins 0")
    refused.unless(not codec.pad, f"actions padded to a common width; train with {option}.width 0")


def _common(policy: Policy, looks: Shown) -> dict[str, Any]:
    """Keys that both kinds of policy have."""
    kinds: dict[str, Kind] = {STATE: "STATE", ENV: "ENV"}
    states = [name for name in kinds if name in looks.states]
    modes = {kinds[name]: looks.states[name].mode.upper() for name in states}
    codec: Any = policy.codec
    inputs = {name: Feature(kinds[name], (looks.width(name),)) for name in states}
    return {
        "n_obs_steps": policy.timing.n_obs_steps,
        "input_features": inputs | {n: Feature("VISUAL", (3, *size)) for n, size in looks.cameras.items()},
        "output_features": {ACTION: Feature("ACTION", (policy.spec.action,))},
        "device": "cpu",
        "push_to_hub": False,
        "n_action_steps": policy.timing.n_action_steps,
        "normalization_mapping": {"VISUAL": "MEAN_STD", **modes, "ACTION": codec.scale.mode.upper()},
        "vision_backbone": f"resnet{looks.backbone.layers}",
        # Weights are in the folder; with a name here LeRobot would fetch others first.
        "pretrained_backbone_weights": None,
    }
