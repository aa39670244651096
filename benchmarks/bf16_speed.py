"""Training steps in bf16 beside float32, in turns, at the systems' default sizes: what `--bf16 auto` decides about.

    python benchmarks/bf16_speed.py [SYSTEM ...] [--rounds 6] [--write]

Two threads, made-up batches (those of trace.py), four steps of AdamW a repetition by the clock on the wall. One JSON
line a system: milliseconds a step of each (medians), how many times as fast bf16 is (the median of paired ratios), and
what `--bf16 auto` finds and how long that takes it.
`--write` puts the table into docs/data/bf16-speed.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import statistics
import time
from pathlib import Path
from trace import policy, text

import torch

from nextmove.contracts import seeded, total
from nextmove.evaluation.machine import machine
from nextmove.training import precision
from nextmove.training.step import autocast

ROWS = {"flow-policy": 256, "bc": 256, "act": 64, "diffusion-policy": 64, "lstm-gmm": 64}
TEXTS = ("gpt", "lstm")
STEPS, THREADS, CPU = 4, 2, torch.device("cpu")


def measured(name: str, rounds: int) -> dict[str, float]:
    """Milliseconds a step in float32 and in bf16, the median of the pairs' ratios; auto's ratio and seconds."""
    torch.manual_seed(0)
    model, batch = text(name) if name in TEXTS else policy(name)
    data = batch(0) if name in TEXTS else batch(0, ROWS[name])
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=True)

    def gradients(mixed: bool, step: int = 0) -> None:
        with autocast(CPU, mixed):
            loss = total(model.loss(data, rng=seeded(step)))
        loss.backward()

    began = time.perf_counter()
    tried, seconds = precision.steps(gradients), time.perf_counter() - began

    def steps(mixed: bool) -> float:
        began = time.perf_counter()
        for step in range(STEPS):
            optimiser.zero_grad()
            gradients(mixed, step)
            optimiser.step()
        return 1000 * (time.perf_counter() - began) / STEPS

    steps(False), steps(True)
    pairs = [(steps(False), steps(True)) for _ in range(rounds)]
    wide, narrow = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return {"float32": wide, "bf16": narrow, "ratio": ratio, "tried": tried, "seconds": seconds}


def main() -> None:
    """Prints a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows, ratio = [], precision.products(THREADS)
    for name in options.systems or (*ROWS, *TEXTS):
        found = measured(name, options.rounds)
        print(json.dumps({"system": name, **found}), flush=True)
        chosen = "bf16" if min(found["tried"], ratio) >= precision.FASTER else "float32"
        digits = {"float32": 1, "bf16": 1}
        rows.append([name, *(f"{value:.{digits.get(key, 2)}f}" for key, value in found.items()), chosen])
    if options.write:
        content = {
            "title": "Training steps in bf16 and in float32",
            "command": "python benchmarks/bf16_speed.py --write",
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "note": f"Default sizes, two threads, in turns, medians over {options.rounds} rounds of {STEPS} steps. "
            f"Products of matrices are {ratio:.2f} times as fast in bf16 here. `--bf16 auto` tries gradients of steps, "
            f"as the right half shows, and chooses bf16 from {precision.FASTER:g} times on.",
            "columns": [
                "system",
                "float32, ms a step",
                "bf16, ms a step",
                "times as fast",
                "as tried",
                "s of trying",
                "auto chooses",
            ],
            "rows": rows,
        }
        path = Path(__file__).parents[1] / "docs" / "data" / "bf16-speed.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
