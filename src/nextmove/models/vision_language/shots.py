"""Examples in front of a question: several rows of a batch become one conversation (Alayrac et al. 2022, section 2.3).

In some conversations answers get made-up names, the same within a conversation and others in the next one: what a name
means can only be read off the examples, so that a model learns to look for it there. Exactly two names are shown,
equally often and in random order, and either is as likely to be asked for: who copies an example, or the commonest
name, is right half of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextmove.contracts import Rng, uniform
from nextmove.models.vision_language.wording import Turn

BEGINNINGS, ENDINGS = "bdfgklmnprstvz", tuple(v + b for v, b in product("aeiou", "bdgklmnprtx"))
NAMES = tuple(a + b for a, b in product(BEGINNINGS, ENDINGS))
"""Made-up words, of which every fifth is never trained on (`kept_names`)."""


def kept_names(tested: bool) -> tuple[str, ...]:
    """The names for tests, or those for training, both with every beginning and every ending.

    What training never shows would be written in pieces of which a tokenizer fitted on it knows nothing.
    """
    return tuple(name for i, name in enumerate(NAMES) if ((i // len(ENDINGS) + i) % 5 == 4) == tested)


class Prompt(NamedTuple):
    """Examples and behind them questions: the numbers of their rows, and their turns with made-up names."""

    rows: list[int]
    turns: list[Turn]


@dataclass(frozen=True)
class Shots:
    """How rows are joined."""

    examples: int = 4
    """In front of the questions."""
    renamed: float = 0.5
    """Share of conversations whose answers have made-up names."""
    asked: int = 1
    """Questions behind the examples."""

    def __post_init__(self) -> None:
        for name in ("examples", "asked"):
            if getattr(self, name) < 1:
                raise ValueError(f"shots.{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 <= self.renamed <= 1:
            raise ValueError(f"shots.renamed: expected a share from 0 to 1, found {self.renamed}")
        if self.renamed:
            check_examples("shots.examples", self.examples)

    @property
    def size(self) -> int:
        """Rows of a conversation."""
        return self.examples + self.asked

    def gathered(self, turns: Sequence[Turn], rng: Rng) -> tuple[Tensor, list[list[Turn]], list[list[bool]]]:
        """Rows (C, size) of the batch that stand together in C conversations, their turns, and which answers count.

        Rows that ask the same come together. Of made-up names only those count that are asked for behind the examples;
        without two answers that have rows enough there are none. Raises ValueError for a batch of fewer rows than a
        conversation has.
        """
        if len(turns) < self.size:
            raise ValueError(
                f"batch: expected at least the {self.size} rows of one conversation, found {len(turns)}; "
                f"--recipe.optim.batch {self.size} or more"
            )
        draws = uniform((len(turns), 2 + drawn(self.examples, self.asked)), rng)
        order = sorted(range(len(turns)), key=lambda i: (turns[i].question, float(draws[i, 0])))
        groups = answered(turns, self.examples, self.asked)
        found, heard = list[Prompt](), list[list[bool]]()
        for i in range(len(order) // self.size):
            own = order[i * self.size : (i + 1) * self.size]
            if groups and float(draws[i, 1]) < self.renamed:
                shown = draws[i, 2:].tolist()
                found.append(named(turns, groups, self.examples, self.asked, kept_names(False), shown))
                heard.append([False] * self.examples + [True] * self.asked)
            else:
                found.append(Prompt(own, [turns[j] for j in own]))
                heard.append([True] * self.size)
        return torch.tensor([prompt.rows for prompt in found]), [prompt.turns for prompt in found], heard


def check_examples(field: str, examples: int) -> None:
    """Raises ValueError for a number of examples of which not half show one name and half another."""
    if examples < 2 or examples % 2:
        raise ValueError(f"{field}: expected an even number, half of them of either name, found {examples}")


def answered(turns: Sequence[Turn], examples: int, asked: int) -> list[Mapping[str, list[int]]]:
    """For each question with two answers or more that have rows enough for a prompt: these answers and their rows."""
    groups: dict[str, dict[str, list[int]]] = {}
    for i, turn in enumerate(turns):
        groups.setdefault(turn.question, {}).setdefault(turn.answer, []).append(i)
    least = examples // 2 + asked
    several = [{said: rows for said, rows in own.items() if len(rows) >= least} for own in groups.values()]
    return [own for own in several if len(own) > 1]


def drawn(examples: int, asked: int) -> int:
    """How many numbers decide a prompt: its question, two answers and names, the order, what is asked, and rows."""
    return 5 + 2 * (examples + asked)


def named(
    turns: Sequence[Turn],
    groups: Sequence[Mapping[str, list[int]]],
    examples: int,
    asked: int,
    names: Sequence[str],
    draws: Sequence[float],
) -> Prompt:
    """A prompt of two answers to one question, half of whose examples show either by a name of its own.

    groups: as `answered` gives them; draws: `drawn` numbers, uniform in [0, 1). No row stands in a prompt twice.
    """
    draw = iter(draws)
    group = groups[int(next(draw) * len(groups))]
    answers, free = list(group), list(names)
    rows, called = zip(*((list(group[_picked(answers, draw)]), _picked(free, draw)) for _ in range(2)), strict=True)
    halves = [0, 1] * (examples // 2)
    which = [_picked(halves, draw) for _ in range(examples)] + [int(next(draw) * 2) for _ in range(asked)]
    shown = [_picked(rows[i], draw) for i in which]
    return Prompt(shown, [turns[row]._replace(answer=called[i]) for row, i in zip(shown, which, strict=True)])


def _picked(free: list[Any], draw: Iterator[float]) -> Any:
    """One of what is free, which then is no longer."""
    return free.pop(int(next(draw) * len(free)))


def explained(turns: Sequence[Turn], examples: int, count: int, names: Sequence[str], rng: Rng) -> list[Prompt]:
    """So many prompts of `examples` rows and one that is asked; none where no two answers have rows enough."""
    groups = answered(turns, examples, 1)
    draws = uniform((count, drawn(examples, 1)), rng).tolist() if groups else []
    return [named(turns, groups, examples, 1, names, own) for own in draws]


def crossed(prompt: Prompt, draws: Sequence[float]) -> list[int]:
    """The prompt's rows, half of either name's examples in the place of the other's: no example says what a name means.

    draws: uniform in [0, 1), one for each example, of which there are a multiple of 4.
    """
    rows, order = list(prompt.rows), sorted(range(len(draws)), key=lambda i: draws[i])
    one = prompt.turns[0].answer
    first, other = ([i for i in order if (prompt.turns[i].answer == one) == own] for own in (True, False))
    for i, j in zip(first[: len(draws) // 4], other, strict=False):
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def copied(turns: Sequence[Turn]) -> tuple[float, float]:
    """How often copying an example answers the last turn: an example drawn at random, and the examples' commonest
    answer (one drawn of those that are as common)."""
    said = Counter(turn.answer for turn in turns[:-1])
    own, most = said[turns[-1].answer], max(said.values())
    return own / (len(turns) - 1), (own == most) / sum(count == most for count in said.values())
