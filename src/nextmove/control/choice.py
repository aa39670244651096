"""The controller an actor asks for: temporal ensembling where it was made for it, else receding horizon control."""

from __future__ import annotations

import torch

from nextmove.contracts import Actor
from nextmove.control.ensemble import BatchedEnsembling, Ensembling
from nextmove.control.receding import BatchedReceding, Receding


def suited(actor: Actor, rng: torch.Generator | None = None) -> Receding | Ensembling:
    """The control of one robot that the actor asks for by its `ensemble`, a coefficient or None (as if absent)."""
    coefficient = _coefficient(actor)
    return Receding(actor, rng) if coefficient is None else Ensembling(actor, rng, coefficient=coefficient)


def suited_rows(actor: Actor, rows: int, *, n_action_steps: int | None = None) -> BatchedReceding | BatchedEnsembling:
    """The same for `rows` robots; `n_action_steps` asks for receding horizon control with so many of each plan."""
    coefficient = _coefficient(actor)
    if coefficient is None or n_action_steps is not None:
        return BatchedReceding(actor, rows, n_action_steps=n_action_steps)
    return BatchedEnsembling(actor, rows, coefficient=coefficient)


def _coefficient(actor: Actor) -> float | None:
    found: float | None = getattr(actor, "ensemble", None)
    return found
