"""What copying an example answers in the prompts that `see_and_speak.py` judges Flamingo on; no model is needed.

    python benchmarks/copied_names.py            # draws the 1800 held-out scenes of 12000: minutes of one core

What is said of scenes follows from their seed, and which rows stand in which prompt from the judgement's, so that the
prompts are those of the table docs/data/see-and-speak.json, also after its runs are gone. That they are shows in what
the table counts of the same rows: how many of each kind, and the best without looking; others are an error.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing

import torch

from kept_table import DATA
from nextmove.contracts import seeded
from nextmove.jobs.judge_reader import Answered, evenly, prior
from nextmove.jobs.scene_parts import is_held, parts
from nextmove.models.vision_language.shots import copied, explained
from nextmove.models.vision_language.wording import Turn
from nextmove.sim.scene import Wish
from nextmove.sim.scene_words import Row, written
from nextmove.sim.scenes import sources
from see_and_speak import TASKS

HELD, QUESTIONS, SIZE = 0.15, 4, 128
"""What `nextmove scenes` holds out and asks, and the side of its pictures."""
JUDGED, PROMPTS, EXAMPLES = 400, 200, 4
"""Rows, prompts and examples of a prompt in the judgement of Flamingo."""


def rows(scenes: int, seed: int = 0) -> Iterator[Row]:
    """What is said of the held-out scenes, in the order of their captions file."""
    found = sources(TASKS)
    for source in found:
        with closing(source.open(SIZE)) as drawing:
            for part in parts(source, -(-scenes // len(found))):
                for number in filter(lambda n: is_held(n, HELD), range(part.first, part.last)):
                    wish = Wish(number, seed, held=True)
                    for scene in drawing.scenes(wish):
                        yield from written(scene, wish.rng(source.name, 1 + number - part.first), QUESTIONS)


def counts(kinds: list[str], turns: list[Turn]) -> dict[str, str]:
    """What the table says of these rows, whoever answers them."""
    best = prior(Answered(turns, kinds, [], torch.empty(0)))
    found = {f"answers to {kind}": f"/{kinds.count(kind)}" for kind in kinds}
    return found | {"best without looking": f"{best['right']}/{best['of']}"}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=12_000)
    drawn = list(rows(parser.parse_args().scenes))
    kinds, asked, said = zip(*(drawn[i] for i in evenly(len(drawn), JUDGED)), strict=True)
    turns = [Turn(*row) for row in zip(asked, said, strict=True)]
    kept = json.loads((DATA / "see-and-speak.json").read_text())["rows"]
    table = {row[4]: row[5] for row in kept if row[0] == "flamingo"}
    for name, expected in counts(list(kinds), turns).items():
        if not table[name].endswith(expected):
            raise SystemExit(f"{name}: expected the table's {table[name]}, found {expected}; the rows are others")
    prompts = explained(turns, EXAMPLES, PROMPTS, seeded(0, 8))
    one, commonest = (sum(own) for own in zip(*(copied([turns[i] for i in own]) for own in prompts), strict=True))
    print(f"one of {EXAMPLES} examples copied: {one:g}/{len(prompts)}; the commonest: {commonest:g}/{len(prompts)}")


if __name__ == "__main__":
    main()
