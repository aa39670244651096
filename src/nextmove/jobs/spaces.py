"""Decides with the data at hand what actions are relative to, and says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nextmove import data
from nextmove.geometry import KINDS
from nextmove.jobs.held import near
from nextmove.jobs.standing import EVEN, offsets
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.matching import columns, kept

LOOKED_AT = 1 << 16
"""Frames of which state and action are compared."""
SHOWN = 3
"""Joints that are named."""
CHOICES = "--recipe.actions.space absolute, relative or deltas chooses otherwise"


def settle(recipe: Any, spec: PolicySpec, dataset: data.Dataset) -> tuple[Any, str]:
    """The recipe with its action space decided, and a sentence on it.

    By name alone a state and displacements look alike, so `auto` is also decided by where the data's actions lie.
    """
    asked = recipe.actions
    found = asked.resolve(spec, recipe.encoder.points(spec.inputs))
    why = "as asked for"
    if asked.space == "shown":
        why = "as the recipe has it"
    elif asked.space == "auto" and found.space == "relative" and recipe.encoder.points(spec.inputs) is not None:
        why = "as the points are shown"
    elif asked.space == "auto" and found.space == "absolute":
        why = f"action and {asked.reference} share no names of joints"
    elif asked.space == "auto" and (against := _against(found, spec, dataset)):
        found, why = replace(asked, space="absolute").resolve(spec, None), against
    elif asked.space == "auto":
        why = f"action and {asked.reference} share the names of joints"
    return replace(recipe, actions=found), f"actions: {named(found, spec)} ({why}); {CHOICES}"


def named(actions: Any, spec: PolicySpec) -> str:
    """A decided action space in words."""
    space = {"relative": "relative to", "deltas": "step to step from"}.get(actions.space, "absolute")
    text = space if space == "absolute" else f"{space} {actions.reference} at the start of each plan"
    text += " along the points' heading" if actions.frame == "object" else ""
    stay = kept(spec, actions.keep) if space != "absolute" else ()
    if stay:
        text += f", {', '.join(spec.action_names[i] if spec.action_names else str(i) for i in stay)} absolute"
    if actions.rotation != "none":
        text += f", {len(actions.rotation_at)} rotation(s) from {actions.rotation} to {actions.rotation_shown}"
    return text


def _against(actions: Any, spec: PolicySpec, dataset: data.Dataset) -> str:
    """Why actions are not relative to a state of their names; empty if they are."""
    if not _commands_places(actions, spec, dataset):
        shared = f"action and {actions.reference} share names"
        return f"{shared}, but the actions lie nowhere near it, as velocities and displacements do"
    return _short(actions, spec, dataset)


def _short(actions: Any, spec: PolicySpec, dataset: data.Dataset) -> str:
    """In which joints relative actions would say more of where they stand than of where they go; empty for none."""
    match = columns(spec, actions.reference, actions.keep)
    assert match is not None
    wide = 0 if actions.rotation == "none" else KINDS[actions.rotation]
    turned = {at + k for at in actions.rotation_at for k in range(wide)}  # no differences of numbers
    shares = offsets(dataset, actions.reference, [-1 if i in turned else j for i, j in enumerate(match)])
    worst = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > EVEN]
    if not worst:
        return ""
    named = [spec.action_names[i] if spec.action_names else str(i) for i in worst]
    others = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return (
        f"action and {actions.reference} share names, but relative actions would mostly say how far "
        f"{', '.join(named[:SHOWN])}{others} stop short of their targets, not where they go: "
        f"{100 * shares[worst[0]]:.0f} % of {named[0]}'s difference due now"
    )


def _commands_places(actions: Any, spec: PolicySpec, dataset: data.Dataset) -> bool:
    """Whether the actions lie where the state is."""
    match = columns(spec, actions.reference, actions.keep)
    assert match is not None
    rows = dataset.rows
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64)]
    moves = [i for i, column in enumerate(match) if column >= 0]
    state, action = (dataset.column(n)[rows].reshape(len(rows), -1) for n in (actions.reference, "action"))
    return near(state[:, [match[i] for i in moves]], action[:, moves])
