"""What is answered without looking: the most frequent answers, by kind of question and by question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Row = tuple[str, str, str]
"""Kind, question and answer."""


@dataclass(frozen=True)
class Prior:
    """Of one kind: rows, different answers, the most frequent one, and shares of held-out rows answered blindly.

    constant: by the kind's most frequent answer in training; blind: by that of the very question, where it was asked
    in training, else by the kind's. NaN where nothing is held out.
    """

    trained: int
    held: int
    answers: int
    commonest: str
    share: float
    constant: float
    blind: float


def priors(trained: Iterable[Row], held: Iterable[Row]) -> dict[str, Prior]:
    """By kind of question, in order of the names; rows without a question are left out."""
    seen, tested = _by_kind(trained), _by_kind(held)
    return {kind: _prior(rows, tested.get(kind, [])) for kind, rows in sorted(seen.items())}


def blind_share(found: Mapping[str, Prior]) -> float:
    """The share of all held-out rows that are answered blindly by question; NaN where there are none."""
    total = sum(prior.held for prior in found.values())
    return sum(prior.blind * prior.held for prior in found.values() if prior.held) / total if total else float("nan")


def table(found: Mapping[str, Prior]) -> list[list[str]]:
    """The figures as rows of text, a header first."""
    header = ["kind", "trained", "held out", "answers", "most frequent", "its share", "constant", "blind"]
    rows = [
        [kind, str(p.trained), str(p.held), str(p.answers), p.commonest, *map(_percent, (p.share, p.constant, p.blind))]
        for kind, p in found.items()
    ]
    return [header, *rows]


def _by_kind(rows: Iterable[Row]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind, question, answer in rows:
        if question:
            found[kind].append((question, answer))
    return found


def _prior(trained: list[tuple[str, str]], held: list[tuple[str, str]]) -> Prior:
    answers = Counter(answer for _, answer in trained)
    by_question: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in trained:
        by_question[question][answer] += 1
    commonest, times = _first(answers)
    guesses = [_first(by_question[q])[0] if q in by_question else commonest for q, _ in held]
    right = sum(guess == answer for guess, (_, answer) in zip(guesses, held, strict=True))
    constant = sum(answer == commonest for _, answer in held)
    count = len(held) or float("nan")
    return Prior(
        len(trained), len(held), len(answers), commonest, times / len(trained), constant / count, right / count
    )


def _first(answers: Counter[str]) -> tuple[str, int]:
    """The most frequent one, of several the first by name."""
    return min(answers.items(), key=lambda item: (-item[1], item[0]))


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.1f} %"
