"""Training steps of SmolVLA's frozen recipe with the prefixes of the data set kept, and with every prefix computed.

    python benchmarks/prefix_speed.py [--size published|small] [--rows 2] [--rounds 3] [--threads 2] [--add FILE]

Random weights and pictures. Published: 450 M weights, two cameras of 512 px, 48 words, chunks of 50. In turns: loss and
gradients of the same rows by the whole pass, and by the prefixes that a store has of them, read from the disk at each
step; then the update of the trained weights, which both have. Seconds are the best of the rounds. Gradients of the two
are compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextmove import store
from nextmove.contracts import TASK, Feature, seeded
from nextmove.data.prefix_store import PrefixStore
from nextmove.encoders.kept_prefix import made
from nextmove.encoders.prompt import Prompt
from nextmove.evaluation.machine import machine
from nextmove.host.files import write_json
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.smolvla import FROZEN, SmolVla
from nextmove.training.optim import Update, factors, frozen, trainable, undecayed

CAMERAS = ("observation.images.top", "observation.images.wrist")
STATE, WORDS = "observation.state", "pick the red cube and place it in the box, please"


def policy_of(size: str) -> Policy:
    """A policy with random weights; words are bytes, which need no file."""
    recipe = SmolVla.published() if size == "published" else SmolVla()
    encoder = replace(recipe.encoder, prompt=Prompt(length=64), cameras=CAMERAS, states=(STATE,))
    recipe = replace(recipe, encoder=encoder, optim=replace(recipe.optim, scales=FROZEN))
    side = recipe.encoder.towers[0].image
    inputs = {name: Feature("image", (side, side, 3)) for name in CAMERAS}
    spec = PolicySpec(inputs | {STATE: Feature("state", (6,)), TASK: Feature("text")}, 6, 30.0)
    policy: Any = store.create("smolvla", spec, recipe)
    for scale in (policy.encoder.scale, policy.codec.scale):
        scale.set({"mean": torch.zeros(6), "std": torch.ones(6)})
    return policy.train()


def batch_of(policy: Policy, rows: int) -> dict[str, Any]:
    """Random observations and actions."""
    drawn = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {STATE: torch.randn(rows, 1, 6, generator=drawn), TASK: [WORDS] * rows}
    for name in CAMERAS:
        shape = (rows, 1, *policy.inputs[name].shape)
        found[name] = torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8)
    found["action"] = torch.randn(rows, policy.horizon, 6, generator=drawn)
    return found | {"action_is_pad": torch.zeros(rows, policy.horizon, dtype=torch.bool)}


def measure(size: str, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of each, in turns, and how far the gradients are apart."""
    torch.manual_seed(0)
    policy = policy_of(size)
    optim: Any = policy.card.recipe.optim  # type: ignore[union-attr]
    rates = factors(policy, optim.scales)
    moved = {name: p for name, p in trainable(policy).items() if rates[name]}
    batch, few = batch_of(policy, rows), np.arange(rows)
    with tempfile.TemporaryDirectory() as folder, frozen(policy, optim.scales):
        update = Update(moved, optim, undecayed=undecayed(policy))
        kept = PrefixStore(Path(folder), {}, "float32")
        for _ in kept.add(few, lambda _: made(policy.encoder, batch, rows), rows):
            pass
        without = {name: value for name, value in batch.items() if name not in CAMERAS}

        def step(shown: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
            update.zero()
            began = time.perf_counter()
            sum(policy.loss(shown(), rng=seeded(1)).values()).backward()  # type: ignore[union-attr]
            spent = time.perf_counter() - began
            return spent, {name: p.grad.clone() for name, p in moved.items() if p.grad is not None}

        ways = {"whole": lambda: batch, "kept": lambda: without | {"prefix": kept.batch(few)}}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, dict[str, torch.Tensor]] = {}
        for _ in range(rounds):
            for name, shown in ways.items():
                spent, found[name] = step(shown)
                seconds[name].append(spent)
        largest = max(float(value.abs().max()) for value in found["whole"].values())
        apart = max(float((found["kept"][n] - value).abs().max()) for n, value in found["whole"].items()) / largest
        began = time.perf_counter()
        update.apply(0.0, 1.0)
        updating = time.perf_counter() - began
        bytes_each = kept.bytes / rows
    best = {name: min(values) + updating for name, values in seconds.items()}
    return {
        "size": size, "rows": rows, "seconds": best, "update_seconds": updating, "faster": best["whole"] / best["kept"],
        "gradients_apart": apart, "MB_a_frame": bytes_each / 1e6,
        "parameters": sum(p.numel() for p in policy.parameters()),
    }  # fmt: skip


TITLE = "Training steps with kept prefixes"
NOTE = (
    "SmolVLA's frozen recipe with random weights, two cameras (published: 512 px, chunks of 50). A step is loss, "
    "gradients and the update of the expert and the maps of states and actions; best of the rounds, in turns. Kept "
    "prefixes are read from the disk at each step. Gradients apart: largest difference over the largest gradient."
)
COLUMNS = [
    "size",
    "M weights",
    "rows a step",
    "s a step, whole",
    "s a step, kept",
    "faster",
    "gradients apart",
    "MB a frame",
]


def add(found: dict[str, Any], path: Path) -> None:
    """Puts a line into the table, in place of one of the same size."""
    seconds = found["seconds"]
    row = [
        found["size"], f"{found['parameters'] / 1e6:.2f}", str(found["rows"]), f"{seconds['whole']:.3f}",
        f"{seconds['kept']:.3f}", f"{found['faster']:.1f}", f"{found['gradients_apart']:.1e}",
        f"{found['MB_a_frame']:.2f}",
    ]  # fmt: skip
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = [*(other for other in rows if other[0] != row[0]), row]
    head = {"title": TITLE, "command": "python benchmarks/prefix_speed.py", "date": time.strftime("%Y-%m-%d")}
    write_json(path, head | {"machine": found["machine"], "note": NOTE, "columns": COLUMNS, "rows": rows})


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("published", "small"), default="published")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--add", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.size, args.rows, args.rounds) | {"threads": args.threads, "machine": machine()}
    print(json.dumps(found, indent=2))
    if args.add:
        add(found, args.add)


if __name__ == "__main__":
    main()
