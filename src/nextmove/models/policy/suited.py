"""Which action spaces fit which decoder: one check for every recipe, and the changes that an exchange brings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nextmove.codecs.scaled import end
from nextmove.decoders import Autoregressive, MeanFlow
from nextmove.decoders.categorical import Categorical
from nextmove.decoders.insulated import Insulated
from nextmove.decoders.reach import check_reach, reach, refuse
from nextmove.nn import Lstm


def check(actions: Any, decoder: Any) -> None:
    """Refuses (`decoders.reach.refuse`) an `ActionSpace` and a decoder config that contradict each other.

    A decoder of ids needs ids, as many as its classes; any other needs none, and data that end where it does.
    """
    ids = isinstance(decoder, Autoregressive | Categorical)
    if ids and not decoder.classes:
        refuse(
            "actions.bins: expected bins or FAST for a decoder of ids, found neither; choose --recipe.actions.bins 256"
        )
    # The last class of a vocabulary with others is no bin.
    classes = decoder.classes - getattr(decoder.trunk, "others", False) if ids else 0
    if ids and actions.fast and (actions.classes != classes or not getattr(decoder, "ends", False)):
        refuse(
            f"actions.fast: expected decoder.classes {actions.classes} and decoder.ends, one id more than FAST's "
            f"pieces, found {classes} without ends or with others; --recipe.decoder.classes 0 settles both"
        )
    if ids and not actions.fast and actions.bins != classes:
        refuse(
            f"actions.bins: expected {classes}, one for each of decoder.classes, found {actions.bins}; choose "
            f"--recipe.actions.bins {classes}"
        )
    _check_written(actions, decoder)
    for name in ("bins", "fast"):
        if not ids and (found := getattr(actions, name)):
            refuse(
                f"actions.{name}: expected 0, for {type(decoder).__name__} generates numbers and no ids, found "
                f"{found}; choose --recipe.actions.{name} 0, or action-tokens"
            )
    if not ids:
        check_reach(decoder, _end(actions), f"actions.scaling {actions.scaling}")
    if isinstance(decoder, MeanFlow) and isinstance(decoder.trunk, Lstm):
        refuse("decoder.trunk: MeanFlow differentiates forward, which torch's LSTM cannot; choose another --trunk")


def _check_written(actions: Any, decoder: Any) -> None:
    """Refuses actions that are written beside what is generated, and a decoder that writes, where one has no other."""
    insulated, pieces = isinstance(decoder, Insulated), actions.written
    if pieces and not insulated:
        refuse(
            f"actions.written: expected 0, for {type(decoder).__name__} writes nothing beside what it generates, found "
            f"{pieces}; choose --recipe.actions.written 0"
        )
    if not insulated:
        return
    words = decoder.words
    classes = words.classes - bool(words.classes and getattr(words.trunk, "others", False))
    if not classes or bool(pieces) != words.ends or (pieces and classes != pieces + 1):
        refuse(
            f"actions.written: expected pieces of FAST for decoder.words, found {pieces} for {classes} classes; "
            "--recipe.decoder.words.classes 0 settles both, and bins are written with actions.written 0 and as many "
            "classes"
        )


def completed(actions: Any, decoder: Any) -> Any:
    """A decoder config with the number of classes that the ids of an `ActionSpace` have, where it leaves that open."""
    if isinstance(decoder, Insulated):
        pieces = actions.written
        return replace(decoder, words=_counted(decoder.words, pieces + 1, True)) if pieces else decoder
    return _counted(decoder, actions.classes, bool(actions.fast))


def _counted(decoder: Any, classes: int, ends: bool) -> Any:
    if isinstance(decoder, Autoregressive) and not decoder.classes:
        others = bool(classes) and getattr(decoder.trunk, "others", False)
        return replace(decoder, classes=classes + others, ends=ends)
    return decoder


def suited(recipe: Any) -> Any:
    """The recipe with the action space that its decoder needs: numbers in place of bins, a scaling that ends."""
    actions, decoder = getattr(recipe, "actions", None), recipe.decoder
    if actions is None:
        return recipe
    if not isinstance(decoder, Autoregressive | Categorical):
        actions = replace(actions, bins=0, levels=False, choices=(), ranges=(), edges=False, fast=0)
    if not isinstance(decoder, Insulated):
        actions = replace(actions, written=0)
    if reach(decoder) < _end(actions):
        actions = replace(actions, scaling="min_max")
    return replace(recipe, actions=actions)


def _end(actions: Any) -> float:
    """Largest magnitude of actions in model space."""
    return 1.0 if actions.clip else end(actions.scaling)
