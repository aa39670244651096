"""Final losses of training in bf16 within the spread of float32's seeds.

    python benchmarks/bf16_losses.py [SYSTEM ...] [--seeds 4] [--steps 300] [--write]

Each run trains a system's recipe on made-up windows (those of trace.py) from its own seed, in float32 and in bf16; its
final loss is the mean over eight held-out batches with fixed draws, computed in float32. One JSON line a system.
`--write` puts the table into docs/data/bf16-losses.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from trace import policy
from typing import Any

import torch

from nextmove.contracts import seeded, total
from nextmove.evaluation.machine import machine
from nextmove.training.step import autocast

CPU = torch.device("cpu")


def final(name: str, seed: int, steps: int, bf16: bool) -> float:
    """The held-out loss after training."""
    torch.manual_seed(seed)
    model, batch = policy(name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)
    model.train()
    for step in range(steps):
        data = batch(1000 * seed + step)
        optimiser.zero_grad()
        with autocast(CPU, bf16):
            loss = total(model.loss(data, rng=seeded(seed, step)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    with torch.no_grad():
        return statistics.mean(float(total(model.loss(batch(9_000_000 + i), rng=seeded(i)))) for i in range(8))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=["diffusion-policy", "act"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[Any]] = []
    for name in options.systems:
        found = {kind: [final(name, s, options.steps, kind == "bf16") for s in range(options.seeds)]
                 for kind in ("float32", "bf16")}  # fmt: skip
        means = {kind: statistics.mean(values) for kind, values in found.items()}
        spread = statistics.stdev(found["float32"])
        line = {"system": name, **found, "apart": means["bf16"] - means["float32"], "spread": spread}
        print(json.dumps(line), flush=True)
        rows.append([name, *(f"{means[k]:.4f}" for k in means), f"{line['apart']:+.4f}", f"{spread:.4f}"])
    if options.write:
        content = {
            "title": "Final losses in bf16 and in float32",
            "command": "python benchmarks/bf16_losses.py --write",
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "note": f"Recipes as they are on made-up windows, {options.seeds} seeds each way, {options.steps} steps; "
            "means of held-out losses, how far they are apart, and the standard deviation over float32's seeds.",
            "columns": ["system", "float32", "bf16", "bf16 - float32", "deviation over seeds"],
            "rows": rows,
        }
        path = Path(__file__).parents[1] / "docs" / "data" / "bf16-losses.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
