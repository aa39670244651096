"""SmolVLA at its published size, random weights: a plan while cameras keep the tokens of pictures that do not change.

    python benchmarks/unchanged.py
    python benchmarks/unchanged.py --rounds 1 --runtime torch --name ""     # to try it

Two cameras, shown at 512 px, 48 words, ten steps, chunks of 50. The same policy looks at both pictures, at one of
them, at none, in turns: pictures change in every plan or not at all, and with tokens kept plans are equal to those
without, which is checked. What a robot's cameras keep depends on its scene and threshold: `nextmove evaluate RUN
--unchanged 4` counts.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import torch

from kept_table import keep
from nextmove.contracts import TASK, Feature, Rows, seeded
from nextmove.encoders.prompt import Prompt
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.smolvla import SmolVla
from nextmove.runtime import compiled, keep_unchanged
from smolvla_speed import SIDE, STATE, WORDS
from turns import ratio, seconds, turns

CAMERAS = ("observation.images.front", "observation.images.wrist")
SPEC = PolicySpec(
    {**{name: Feature("image", (SIDE, SIDE, 3)) for name in CAMERAS}, "observation.state": Feature("state", (STATE,))}
    | {TASK: Feature("text")},
    STATE,
    30,
)
TASKS = ["x" * (WORDS - 1)]
"""An id a byte, and the line's end."""
COLUMNS = ["pictures looked at", "ms a plan", "x both"]


def policy(runtime: str) -> Policy:
    """One that keeps the tokens of equal pictures."""
    torch.manual_seed(0)
    recipe = SmolVla.published(SPEC.inputs)
    # Words are bytes, since nobody has its tokenizer here; the table of embeddings is as large as ever.
    recipe = replace(recipe, encoder=replace(recipe.encoder, prompt=Prompt(length=2 * WORDS)))
    made = recipe.build(SPEC).eval()
    for scale in (made.encoder.scale, made.codec.scale):  # type: ignore[union-attr]
        scale.set({"mean": torch.zeros(scale.width), "std": torch.ones(scale.width)})
    return keep_unchanged(compiled(made) if runtime == "openvino" else made, 0.0, len(CAMERAS))


def picture(seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, 1, SIDE, SIDE, 3), generator=seeded(seed), dtype=torch.uint8)


def seen(*pictures: torch.Tensor) -> dict[str, Any]:
    """What a robot sees."""
    shown: dict[str, Any] = dict(zip(CAMERAS, pictures, strict=True))
    return {**shown, "observation.state": torch.ones(1, 1, STATE), TASK: TASKS}


def plan(made: Policy, obs: dict[str, Any]) -> torch.Tensor:
    """Actions (1, CHUNK, STATE) from the same noise."""
    return made.act(obs, rng=Rows([seeded(0)])).actions


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="openvino")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="unchanged", help="of the table in docs/data; empty keeps none")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    made = policy(given.runtime)
    still, new = [picture(0), picture(1)], count(2)
    shown = {
        "both": lambda: seen(picture(next(new)), picture(next(new))),
        "one": lambda: seen(still[0], picture(next(new))),
        "none": lambda: seen(*still),
    }
    looked, kept = (plan(made, seen(*still)) for _ in range(2))
    assert kept.equal(looked), "kept tokens give the same plan"
    sight: Any = made.networks()["vision"]
    assert (sight.asked, sight.kept) == (4, 2), "the second plan looks at nothing"
    sides = {name: partial(turned, made, make) for name, make in shown.items()}
    found = turns(sides, given.rounds)
    rows = [[n, f"{1000 * statistics.median(s):.0f}", f"{ratio(s, found['both']):.2f}"] for n, s in found.items()]
    for row in [COLUMNS, *rows]:
        print(" | ".join(row))
    if given.name:
        written(given, rows)


def turned(made: Policy, make: Any) -> float:
    """Seconds of a plan for what a side is shown, after one for the pictures that stand still."""
    plan(made, seen(picture(0), picture(1)))
    obs = make()
    return seconds(partial(plan, made, obs))()


def written(given: argparse.Namespace, rows: list[list[str]]) -> None:
    """The table in docs/data."""
    keep(
        given.name, title="SmolVLA at its published size: cameras that keep the tokens of pictures that do not change",
        command=f"python benchmarks/unchanged.py --runtime {given.runtime} --rounds {given.rounds}",
        note=f"Random weights, float32, {given.threads} threads; medians of {given.rounds} rounds in turns. Off unless "
        "asked for. A kept picture is an equal one here, and the plan is the same to the bit; with a threshold above 0 "
        "plans differ, and `nextmove evaluate RUN --unchanged 4` says by how much and how many pictures were kept.",
        columns=COLUMNS, rows=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
