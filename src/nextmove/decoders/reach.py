"""How far a decoder's samples can reach, and whether that is as far as the data do.

A sampler that clips, or means bounded by tanh, end somewhere in model space; a codec's scaling says where data end
there. Both are asked here, for recipes, for samplers chosen afterwards and for files.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from nextmove.config import ConfigError

_log = logging.getLogger(__name__)
_saved: ContextVar[str] = ContextVar("saved", default="")


def reach(decoder: Any) -> float:
    """Largest magnitude that a decoder, or the decoder of a config, can generate; infinite where nothing bounds it."""
    inner = getattr(decoder, "inner", None)
    if inner is not None:
        return reach(inner)
    own = getattr(decoder, "reach", None)
    if own is None and hasattr(decoder, "config"):
        own = getattr(decoder.config, "reach", None)
    return math.inf if own is None else float(own)


def refuse(problem: str) -> None:
    """Raises ConfigError with what contradicts what; inside `as_saved` it is a warning."""
    if not _saved.get():
        raise ConfigError(problem)
    _log.warning("%s: %s (trained so; loaded as it is)", _saved.get(), problem)


def check_reach(decoder: Any, end: float, name: str) -> None:
    """Refuses a decoder whose samples end before `end`, the largest magnitude of the data in model space.

    name: whose data, for the message.
    """
    bound = reach(decoder)
    if bound < end:
        refuse(
            f"{name}: data {'have no end' if math.isinf(end) else f'reach {end:g}'} in model space, where "
            f"{type(decoder).__name__} cuts what it generates at {bound:g} (clip or tanh): plans could not reach all "
            "that was demonstrated; choose "
            + ("--recipe.actions.scaling min_max" if bound >= 1 else "a bound of 1 (Shortcut's clip: 4) or none (0)")
        )


@contextmanager
def as_saved(where: str) -> Iterator[None]:
    """Contradictions are warnings that name `where`: a model saved with one must still load."""
    token = _saved.set(where)
    try:
        yield
    finally:
        _saved.reset(token)
