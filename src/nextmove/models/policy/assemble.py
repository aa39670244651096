"""Wires a policy from its parts; every recipe of this folder ends here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

from nextmove.contracts import ContextSpec, Decoder
from nextmove.decoders.insulated import InsulatedDecoder
from nextmove.encoders import Observation
from nextmove.encoders.reading import Reading
from nextmove.models.policy import suited
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn.continued import follow


@runtime_checkable
class DecoderConfig(Protocol):
    """A generative rule with the network it is wrapped around."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> Decoder:
        """The decoder module for x of `shape` (without the batch)."""
        ...


class Recipe(Protocol):
    """What a policy is made of."""

    @property
    def timing(self) -> Timing:
        """When it looks and for how long it plans."""
        ...

    @property
    def encoder(self) -> Observation | Reading:
        """What it looks at, or reads."""
        ...

    @property
    def actions(self) -> ActionSpace:
        """In which space its actions are generated."""
        ...

    @property
    def decoder(self) -> Any:
        """A `DecoderConfig`."""
        ...


def assemble(spec: PolicySpec, recipe: Recipe, kind: type[Policy] = Policy) -> Policy:
    """The untrained policy of these parts, of a `kind`; its `recipe` names the action space that was decided on.

    Raises ConfigError for an action space and a decoder that contradict each other, and ValueError naming an input that
    the encoder needs and the robot lacks, with those present.
    """
    timing, decoder = recipe.timing, suited.completed(recipe.actions, recipe.decoder)
    suited.check(recipe.actions, decoder)
    if not spec.inputs:
        raise ValueError("inputs: expected at least one observed feature ('observation.state', ...), found none")
    shown = recipe.encoder.points(spec.inputs)
    actions = recipe.actions.resolve(spec, shown)
    encoder = recipe.encoder.build(spec.inputs, steps=timing.n_obs_steps, along=actions.frame == "object")
    shape = actions.shape(spec, timing)
    # One of the two kinds of encoder, whose planners are built around it.
    estimator, planner = recipe.encoder.estimator, cast(Any, recipe.encoder.planner)
    codec = actions.codec(spec, timing, shown)
    generating = decoder.build(shape=shape, context=encoder.spec)
    policy = kind(
        spec=spec,
        timing=timing,
        encoder=encoder,
        codec=codec,
        decoder=generating,
        shape=shape,
        estimator=None if estimator is None else estimator.build(spec.inputs),
        planner=None if planner is None else planner.build(encoder, generating, shape),
    )
    follow(policy.decoder, getattr(encoder, "language", None))
    if isinstance(policy.decoder, InsulatedDecoder):
        policy.decoder.spell(codec.beside)
    policy.recipe = replace(recipe, actions=actions)  # type: ignore[type-var]
    return policy
