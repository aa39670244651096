"""The card of a saved model (system, recipe, spec) and facts of its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import nn

from nextmove.contracts import Decoder
from nextmove.decoders.reach import check_reach, reach
from nextmove.nn.lora import Lora


@dataclass(frozen=True)
class Card:
    """What a model is made of: the name of its system, the recipe that built it, and the spec it was built for."""

    system: str
    recipe: object | None
    spec: Any


class Decoded(Protocol):
    """A model that generates."""

    codec: Any
    decoder: Decoder


M = TypeVar("M", bound=Decoded)


def with_sampling(model: M, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> M:
    """The policy or generator itself, set to another solver, number of network calls (0: as trained) or guidance.

    Raises ConfigError where its decoder has nothing of the kind, and where it would end before the data do and did not
    as trained.
    """
    before, model.decoder = reach(model.decoder), model.decoder.with_sampling(solver, steps, guidance)
    check_reach(model.decoder, min(before, getattr(model.codec, "end", math.inf)), "sampler")
    return model


class Model(nn.Module):
    """A policy, a generator or a tokenizer; those of `store.create` and `store.load` have a card."""

    card: Card | None
    recipe: object | None
    """The recipe it was built by, with what that left to be decided, where anything was; None elsewhere."""
    facts: dict[str, Any]
    adapters: Lora | None
    """How it was adapted, where it has adapters that its recipe did not put there."""

    def __init__(self) -> None:
        super().__init__()
        self.card, self.recipe, self.facts, self.adapters = None, None, {}, None
