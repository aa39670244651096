"""Wires a policy of state observations from its parts; every recipe of this folder ends here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import nn

from nextmove.codecs import Actions, Bins, Scaled
from nextmove.contracts import ContextSpec
from nextmove.encoders import Observation, Plain, Points
from nextmove.models.policy import suited
from nextmove.models.policy.policy import Policy, PolicySpec, Representation, Timing

Scaling = Literal["mean_std", "min_max", "quantiles"]


class DecoderConfig(Protocol):
    """A generative rule with the network it is wrapped around."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> nn.Module:
        """The decoder module for x of `shape` (without the batch)."""
        ...


@dataclass(frozen=True)
class ActionSpace:
    """How action windows are scaled before a decoder sees them."""

    scaling: Scaling = "mean_std"
    per_step: bool = True
    """Statistics for each step of the horizon on its own."""
    bins: int = 0
    """Number of uniform bins a dimension is cut into; 0 keeps actions continuous."""


def view_of(representation: Representation, spec: PolicySpec) -> tuple[Plain | Points, dict[str, int]]:
    """The settled view and the features it reads, in file order."""
    if representation.view == "plain":
        return Plain(), dict(spec.features)
    frame: Any = representation.frame
    view = Points(representation.points, representation.anchor, representation.goal, representation.fine, frame)
    used = {view.points, view.anchor, view.goal}
    return view, {name: width for name, width in spec.features.items() if name in used}


def assemble(
    spec: PolicySpec,
    *,
    timing: Timing,
    representation: Representation,
    actions: ActionSpace,
    decoder: DecoderConfig,
    tokens: bool = False,
    mask_padding: bool = False,
) -> Policy:
    """The policy of these parts; `tokens` shows each observed step as a token instead of one vector of all.

    Raises ConfigError for an action space and a decoder that contradict each other.
    """
    suited.check(actions, decoder)
    if not spec.features:
        raise ValueError(
            "features: expected at least one observed state feature ('observation.state', ...), found none"
        )
    representation = representation.settle(spec)
    view, features = view_of(representation, spec)
    # The points' velocities hold what earlier steps would add.
    steps = 1 if isinstance(view, Points) and not tokens else timing.n_obs_steps
    encoder = Observation(
        view, Scaled(view.width(features)), features, steps=steps, tokens=tokens, noise=representation.noise
    )
    shape = (timing.horizon, spec.action)
    codec = Actions(
        Scaled(timing.horizon * spec.action if actions.per_step else spec.action, mode=actions.scaling),
        anchor=representation.anchor if representation.actions == "relative" else None,
        frame=representation.points if representation.frame == "object" else None,
        stepwise=timing.align == "first_observation" and timing.horizon == timing.n_obs_steps,
        per_step=actions.per_step,
        bins=Bins(bins=actions.bins, width=spec.action) if actions.bins else None,
    )
    flat = (shape[0] * shape[1],) if actions.bins else shape
    built = decoder.build(shape=flat, context=encoder.spec)
    return Policy(
        spec=spec, timing=timing, encoder=encoder, codec=codec, decoder=built, shape=flat, mask_padding=mask_padding
    )
