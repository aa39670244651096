"""Judges a model that reads images and answers: exact answers on what was held out, and whether it looks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.contracts import Rng, seeded, uniform
from nextmove.data import DataError
from nextmove.data.pairs import Pairs
from nextmove.data.tables import Array
from nextmove.evaluation.answers_report import figures, told, write_answers
from nextmove.evaluation.intervals import Rate, wilson
from nextmove.evaluation.paired import paired_bootstrap
from nextmove.jobs.ask import load_reader
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.models.vision_language.asking import answers
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.shots import copied, crossed, explained, kept_names
from nextmove.models.vision_language.wording import Turn

BATCH = 32
"""Rows answered together."""
SHOWN = 24
"""Pictures of right and of wrong answers in the report, at most."""


@dataclass(frozen=True)
class Answered:
    """Rows, what was answered, and the images that were shown (B, T, h, w, 3)."""

    turns: Sequence[Turn]
    kinds: Sequence[str]
    said: Sequence[str]
    images: Tensor

    @property
    def right(self) -> list[bool]:
        """Whether each answer is exact, blanks at its ends aside."""
        return [own.strip() == turn.answer.strip() for own, turn in zip(self.said, self.turns, strict=True)]


@repeatable
def judge_reader(
    call: Call,
    model: str | Path,
    *,
    data: str | Path | None = None,
    rows: int = 400,
    episodes: int = 100,
    shots: int = 4,
    length: int = 32,
    seed: int = 0,
    threads: int = 2,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Judges a model that answers questions about images on the held-out rows of what it was trained on.

    Exact answers by kind of question; the same with the images of other rows, which tells whether it looks; and of a
    model with gated blocks its gates, and whether examples in the prompt explain two names that were never trained,
    beside the same prompts without the examples' images, with half of these exchanged, and what copying one of them
    gets, all of which are right half of the time at best. Writes report.html and report.json into OUT and returns the
    latter's content.

    Args:
        model: A run's folder, or a saved model that reads images.
        data: A folder of images with a captions file; default what it was trained on.
        rows: Held-out rows at most, evenly out of all.
        episodes: Prompts with examples that are tried; 0 leaves it out. Of models with gated blocks only.
        shots: Examples in each of them, a multiple of 4: half of them show one name, half another.
        length: Tokens of an answer at most.
        seed: Decides which images are exchanged and which examples are shown.
        threads: Threads of the arithmetic.
        out: Folder of the report; default MODEL/evaluation.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError, DataError: for a model or source that does not fit.
    """
    at_least(1, rows=rows, length=length, threads=threads, shots=shots)
    at_least(0, episodes=episodes, seed=seed)
    if shots % 4:
        raise ConfigError(
            f"shots: expected a multiple of 4, so that half of a name's examples can be exchanged, found {shots}"
        )
    torch.set_num_threads(threads)
    reader = load_reader(model)
    source = data or reader.facts.get("data")
    if source is None:
        raise ConfigError(f"{model}: it does not say what it was trained on; name a folder with --data")
    held = held_rows(reader, source, rows)
    found = answered(reader, held, length)
    other = answered(reader, held, length, moved=seeded(seed, 7))
    result: dict[str, Any] = {
        "name": Path(model).name,
        "data": str(source),
        "exact": rate(found.right),
        "by_kind": by_kind(found),
        "with_other_images": rate(other.right),
        "without_looking": prior(found),
        **few_shot(reader, held, episodes, shots, length, seed),
    }
    target = writable_dir(Path(out) if out else Path(model) / "evaluation")
    write_answers(result, pictures(found), target, commands=[call.command("data", "evaluate")])
    print(summary(result))
    print(f"report: {target / 'report.html'}")
    return result


def held_rows(reader: Reader, source: str | Path, most: int) -> Pairs:
    """At most so many held-out rows, evenly out of all; raises DataError where there are none.

    Of a model that was trained on some kinds of rows alone (`--kinds`) they are of these kinds.
    """
    size = reader.spec.height, reader.spec.width
    pairs = Pairs.read(source, size=size, fit=reader.facts.get("fit", "stretch"))
    _, test = pairs.of_kinds(reader.facts.get("only", ()), str(source)).split()
    if not len(test):
        raise DataError(f"{source}: expected held-out rows, found none")
    return test.take(evenly(len(test), most))


def evenly(count: int, most: int) -> Array:
    """At most so many of the numbers below `count`, evenly out of all."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def answered(reader: Reader, pairs: Pairs, length: int, moved: Rng | None = None) -> Answered:
    """The answers to all rows; moved: each row is shown another one's images."""
    count = len(pairs)
    order = torch.arange(count) if moved is None else exchanged(count, moved)
    turns: list[Turn] = []
    kinds: list[str] = []
    said: list[str] = []
    shown: list[Tensor] = []
    for chosen in torch.split(torch.arange(count), BATCH):
        batch, images = pairs.batch(chosen), pairs.batch(order[chosen])
        each = images["images_valid"].sum(1).tolist()
        own = [Turn(*row) for row in zip(batch["prompt"], batch["text"], each, strict=True)]
        said += answers(reader, images["images"], images["images_valid"], [[turn] for turn in own], new=length)
        turns += own
        kinds += batch["kind"]
        shown.append(images["images"])
    return Answered(turns, kinds, said, torch.cat(shown))


def exchanged(count: int, rng: Rng) -> Tensor:
    """(count,) numbers, of which none stands in its own place."""
    order = torch.randperm(count, generator=rng)  # type: ignore[arg-type]
    places = torch.empty(count, dtype=torch.long)
    places[order] = order.roll(1)
    return places


def rate(right: Sequence[bool]) -> dict[str, Any]:
    """A share with its interval."""
    found: Rate = wilson(sum(right), len(right))
    return {"right": sum(right), "of": len(right), "share": found.rate, "low": found.low, "high": found.high}


def by_kind(found: Answered) -> dict[str, Any]:
    """Shares by kind of question."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(found.kinds, found.right, strict=True):
        groups[kind].append(right)
    return {kind: rate(right) for kind, right in sorted(groups.items())}


def prior(found: Answered) -> dict[str, Any]:
    """What the best fixed answer to each question would reach: more than that takes looking."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for turn in found.turns:
        said[turn.question][turn.answer] += 1
    best = {question: counts.most_common(1)[0][0] for question, counts in said.items()}
    return rate([best[turn.question] == turn.answer for turn in found.turns])


def few_shot(reader: Reader, held: Pairs, episodes: int, shots: int, length: int, seed: int) -> dict[str, Any]:
    """Gates, and answers about two made-up names that examples explain; {} for a model without gates.

    Beside them the same prompts where nothing explains the names, which are offered all the same: without the examples'
    images, and with half of each name's images exchanged for the other's. Those, and who copies an example, are right
    half of the time at best.
    """
    gates = {name: float(w.detach().tanh().abs().mean()) for name, w in reader.net.named_parameters() if _gate(name)}
    if not gates:
        return {}
    found: dict[str, Any] = {"gates": {name.removeprefix("language.stream.gated."): g for name, g in gates.items()}}
    turns = [Turn(row.prompt, row.text) for row in held.rows]
    prompts = explained(turns, shots, episodes, kept_names(True), seeded(seed, 8))
    if not prompts:
        return found
    draws = uniform((len(prompts), shots), seeded(seed, 9)).tolist()
    rows = [prompt.turns for prompt in prompts]
    tries = {
        "with": tried(reader, held, [prompt.rows for prompt in prompts], rows, length),
        "without": tried(reader, held, [prompt.rows[-1:] for prompt in prompts], rows, length),
        "exchanged": tried(reader, held, list(map(crossed, prompts, draws)), rows, length),
    }
    one, commonest = zip(*map(copied, rows), strict=True)
    copies = {"copying_one": one, "copying_commonest": commonest}
    few = {name: rate(right) for name, right in tries.items()} | {name: expected(own) for name, own in copies.items()}
    return found | {"few_shot": {"examples": shots, **few, "gain": gains({**tries, **copies}, seed)}}


def gains(tries: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """How much more is right with examples than by each of the others on the same prompts, with its interval."""
    best, *others = ((name, np.array(own, np.float64)) for name, own in tries.items())
    return {name: asdict(paired_bootstrap(best[1], own, seed=seed)) for name, own in others}


def expected(chances: Sequence[float]) -> dict[str, Any]:
    """How many answers are right in the mean; nothing of it is drawn."""
    return {"right": sum(chances), "of": len(chances), "share": sum(chances) / len(chances)}


def _gate(name: str) -> bool:
    return ".gated." in name and name.endswith(".gate")


def tried(
    reader: Reader, held: Pairs, numbers: Sequence[Sequence[int]], rows: Sequence[Sequence[Turn]], length: int
) -> list[bool]:
    """Whether the last question of each row of turns is answered exactly.

    numbers: the rows whose images are shown, of a prompt's last turns; turns in front of them are without images.
    """
    right: list[bool] = []
    for i in range(0, len(rows), BATCH):
        flat = held.batch([number for own in numbers[i : i + BATCH] for number in own])
        images, valid = (flat[n].unflatten(0, (-1, len(numbers[0]))).flatten(1, 2) for n in ("images", "images_valid"))
        each = flat["images_valid"].sum(1).view(-1, len(numbers[0])).tolist()
        shown = [_showing(row, own) for row, own in zip(rows[i : i + BATCH], each, strict=True)]
        said = answers(reader, images, valid, shown, new=length)
        right += [own.strip() == row[-1].answer for own, row in zip(said, shown, strict=True)]
    return right


def _showing(turns: Sequence[Turn], images: Sequence[int]) -> list[Turn]:
    """The turns with so many images each, and without any in front of those that have some."""
    each = [0] * (len(turns) - len(images)) + list(images)
    return [turn._replace(images=count) for turn, count in zip(turns, each, strict=True)]


def pictures(found: Answered) -> list[dict[str, Any]]:
    """Some right and some wrong answers with their first image."""
    order = sorted(range(len(found.right)), key=lambda i: found.right[i])
    half = SHOWN // 2
    shown = dict.fromkeys([*order[:half], *order[-half:]])
    return [
        {
            "image": found.images[i, 0],
            "question": found.turns[i].question or "(caption)",
            "answer": found.turns[i].answer,
            "said": found.said[i],
            "right": found.right[i],
        }
        for i in shown
    ]


def summary(result: dict[str, Any]) -> str:
    """The verdict in a few lines."""
    lines = [f"{name}: {told(found)}" for name, found in figures(result)]
    if "gates" in result:
        gates = ", ".join(f"{gate:.3f}" for gate in result["gates"].values())
        lines += [f"gates |tanh|, from 0: {gates}"]
    return "\n".join(lines)
