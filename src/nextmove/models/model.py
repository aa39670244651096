"""What every saved model has besides its weights: a card of what it is made of, and facts of how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Card:
    """What a model is made of: the name of its system, the recipe that built it, and the spec it was built for."""

    system: str
    recipe: Any
    spec: Any


class Model(nn.Module):
    """A policy, a generator or a tokenizer; those of `store.create` and `store.load` have a card."""

    card: Card | None
    facts: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.card, self.facts = None, {}
