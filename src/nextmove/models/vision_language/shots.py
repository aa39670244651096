"""Examples in front of a question: several rows of a batch become one conversation (Alayrac et al. 2022, section 2.3).

In some conversations answers get made-up names, the same within a conversation and others in the next one: what a name
means can only be read off the examples, so that a model learns to look for it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from nextmove.contracts import Rng, uniform
from nextmove.models.vision_language.wording import Turn

NAMES = tuple(a + v + b for a, v, b in product("bdfgklmnprstvz", "aeiou", "bdgklmnprtx"))
"""Made-up words, of which every fifth is never trained on (`kept_names`)."""


def kept_names(tested: bool) -> tuple[str, ...]:
    """The names for tests, or those for training."""
    return tuple(name for i, name in enumerate(NAMES) if (i % 5 == 4) == tested)


@dataclass(frozen=True)
class Shots:
    """How rows are joined."""

    examples: int = 4
    """In front of the last question."""
    renamed: float = 0.5
    """Share of conversations whose answers have made-up names."""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"shots.examples: expected at least 1, found {self.examples}")
        if not 0 <= self.renamed <= 1:
            raise ValueError(f"shots.renamed: expected a share from 0 to 1, found {self.renamed}")

    def gathered(self, turns: Sequence[Turn], rng: Rng) -> tuple[Tensor, list[list[Turn]], list[list[bool]]]:
        """Rows (B, examples + 1) of the batch that stand together, their turns, and which answers count.

        Rows that ask the same come together. Of made-up names only those count that an example has shown before.
        Raises ValueError for a batch of fewer rows than a conversation has.
        """
        size = self.examples + 1
        if len(turns) < size:
            raise ValueError(
                f"batch: expected at least the {size} rows of one conversation, found {len(turns)}; "
                f"--recipe.optim.batch {size} or more"
            )
        draws = uniform((len(turns), 2), rng)
        order = sorted(range(len(turns)), key=lambda i: (turns[i].question, float(draws[i, 0])))
        groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        rows, heard = [], []
        for group in groups:
            own = [turns[i] for i in group]
            counted = [True] * size
            if float(draws[group[0], 1]) < self.renamed:
                own, counted = renamed(own, kept_names(False), draws[group, 1])
            rows.append(own)
            heard.append(counted)
        return torch.tensor(groups), rows, heard


def renamed(turns: Sequence[Turn], names: Sequence[str], draws: Tensor) -> tuple[list[Turn], list[bool]]:
    """The turns with made-up answers, and which of them had been named before; draws: (turns,) uniform in [0, 1)."""
    given: dict[str, str] = {}
    found, known = [], []
    for turn, draw in zip(turns, draws.tolist(), strict=True):
        known.append(turn.answer in given)
        if turn.answer not in given:
            free = [name for name in names if name not in given.values()]
            given[turn.answer] = free[int(draw * len(free))]
        found.append(turn._replace(answer=given[turn.answer]))
    return found, known


def explained(turns: Sequence[Turn], examples: int, count: int, rng: Rng) -> list[list[int]]:
    """At most so many prompts of `examples` rows and a last one, by number: all ask the same, and the answer to the
    last is among the examples', beside another."""
    groups: dict[str, list[int]] = {}
    for i, turn in enumerate(turns):
        groups.setdefault(turn.question, []).append(i)
    several = [own for own in groups.values() if len({turns[i].answer for i in own}) > 1 and len(own) > examples]
    found: list[list[int]] = []
    for draws in uniform((4 * count, 2 + len(turns)), rng).tolist() if several else []:
        own = several[int(draws[0] * len(several))]
        order = sorted(own, key=lambda i: draws[2 + i])[: examples + 1]
        said = [turns[i].answer for i in order[:-1]]
        if turns[order[-1]].answer in said and len(set(said)) > 1:
            found.append(order)
    return found[:count]


def copied(turns: Sequence[Turn]) -> tuple[float, float]:
    """How often copying an example answers the last turn: an example drawn at random, and the examples' commonest
    answer (one drawn of those that are as common)."""
    said = Counter(turn.answer for turn in turns[:-1])
    own, most = said[turns[-1].answer], max(said.values())
    return own / (len(turns) - 1), (own == most) / sum(count == most for count in said.values())
