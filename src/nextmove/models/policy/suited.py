"""Which action spaces fit which decoder: one check for every recipe, and the changes that an exchange brings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nextmove.codecs.scaled import end
from nextmove.decoders import Autoregressive, MeanFlow
from nextmove.decoders.categorical import Categorical
from nextmove.decoders.reach import check_reach, reach, refuse
from nextmove.nn import Lstm


def check(actions: Any, decoder: Any) -> None:
    """Refuses (`decoders.reach.refuse`) an `ActionSpace` and a decoder config that contradict each other.

    A decoder of ids needs bins, as many as its classes; any other needs none, and data that end where it does.
    """
    ids = isinstance(decoder, Autoregressive | Categorical)
    # The last class of a vocabulary with others is no bin.
    classes = decoder.classes - getattr(decoder.trunk, "others", False) if ids else 0
    if ids and actions.bins != classes:
        refuse(
            f"actions.bins: expected {classes}, one for each of decoder.classes, found {actions.bins}; choose "
            f"--recipe.actions.bins {classes}"
        )
    if not ids and actions.bins:
        refuse(
            f"actions.bins: expected 0, for {type(decoder).__name__} generates numbers and no ids of bins, found "
            f"{actions.bins}; choose --recipe.actions.bins 0, or action-tokens"
        )
    if not ids:
        check_reach(decoder, _end(actions), f"actions.scaling {actions.scaling}")
    if isinstance(decoder, MeanFlow) and isinstance(decoder.trunk, Lstm):
        refuse("decoder.trunk: MeanFlow differentiates forward, which torch's LSTM cannot; choose another --trunk")


def suited(recipe: Any) -> Any:
    """The recipe with the action space that its decoder needs: numbers in place of bins, a scaling that ends."""
    actions, decoder = getattr(recipe, "actions", None), recipe.decoder
    if actions is None:
        return recipe
    if not isinstance(decoder, Autoregressive | Categorical):
        actions = replace(actions, bins=0, levels=False, choices=(), ranges=(), edges=False)
    if reach(decoder) < _end(actions):
        actions = replace(actions, scaling="min_max")
    return replace(recipe, actions=actions)


def _end(actions: Any) -> float:
    """Largest magnitude of actions in model space."""
    return 1.0 if actions.clip else end(actions.scaling)
