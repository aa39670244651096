"""Sample quality against the number of network calls, over the generators trained on one corpus.

    python benchmarks/generators.py digits && python benchmarks/calls.py runs/digits

Every system of RUNS is sampled with each of its solvers at several numbers of steps, and the samples are compared with
the held-out images. Writes a table for docs/results.md, of which `scripts/results.py write` draws the picture; what
needs a call for each token stands in both.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from nextmove import data
from nextmove.evaluation import quality
from nextmove.evaluation.machine import machine
from nextmove.jobs.generate import load_generator
from nextmove.jobs.judge import BATCH, draw, quantised

TOKENIZERS = ("vqvae", "vqgan")
"""Runs that draw nothing by themselves."""
DOCS = Path(__file__).resolve().parent.parent / "docs"
SWEEPS: dict[str, list[tuple[str | None, tuple[int, ...]]]] = {
    "ddpm": [("ancestral", (10, 20, 50, 100, 250)), ("ddim", (1, 2, 5, 10, 20, 50))],
    "ddpm-v": [("ddim", (1, 2, 5, 10, 20, 50))],
    "dit": [("ddim", (1, 2, 5, 10, 20, 50))],
    "flow": [("euler", (1, 2, 4, 8, 16, 32)), ("midpoint", (1, 2, 4, 8, 16))],
    "reflow": [("euler", (1, 2, 4, 8, 16))],
    "meanflow": [(None, (1, 2, 4))],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--samples", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[list[Any]] = []
    runs = sorted(path.parent.parent for path in args.runs.glob("*/model/config.json"))
    for run in (run for run in runs if run.name not in TOKENIZERS):
        for sampler, sizes in SWEEPS.get(run.name, [(None, (0,))]):
            for steps in sizes:
                model = load_generator(run, sampler=sampler, steps=steps)
                found = data.images(model.facts["data"], size=model.spec.height)
                test, train = (quantised(x.image, model.spec.levels).numpy() for x in (found.test, found.train))
                drawn, speed = draw(model, min(args.samples, len(test)), args.seed)
                judged = quality.judge_samples(drawn.numpy(), test, train)
                calls, name = speed["network_calls"], f"{run.name}, {sampler}" if sampler else run.name
                near, far = judged["against_test"]["accuracy"], judged["sliced_w2"]
                seconds = speed["seconds_per_image"]
                rows.append([name, f"{calls:.0f}", f"{near:.3f}", f"{far:.3f}", f"{seconds:.3g}"])
                print(*rows[-1], flush=True)
    corpus = args.runs.name
    name, options = f"calls-{corpus}", f"--samples {args.samples} --seed {args.seed} --threads {args.threads}"
    content = {
        "title": f"Sample quality against network calls: {corpus}",
        "command": f"python benchmarks/generators.py {corpus}; python benchmarks/calls.py runs/{corpus} {options}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": f"{args.samples} samples against as many held-out images, {BATCH} images a batch. "
        f" ![Distance to the held-out images by network calls](pictures/{name}.svg)",
        "columns": ["system, solver", "network calls", "1-NN test", "sliced W2", "s per image"],
        "rows": rows,
    }
    (DOCS / "data" / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
