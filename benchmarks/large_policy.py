"""The published pi0 with random weights in bf16: seconds and memory of loading it and of planning one chunk.

    python benchmarks/large_policy.py [--cameras 3] [--words 48] [--threads 2] [--plans 4] [--folder DIR] [--small]
    python benchmarks/large_policy.py --out docs/data/speed-pi0.json

A folder in openpi's layout (6.5 GB; `--small`: a few kilobytes of the same form) is written to DIR or a temporary
place, piece by piece, read as any other, and asked for chunks of 50 actions in ten steps. One JSON line: seconds to
load, milliseconds of sight, prefix and denoising of each plan, and the largest memory that the process had, GB. OUT
gets a table of them, from where `scripts/results.py write` takes it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import struct
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from nextmove import weights
from nextmove.contracts import TASK, Feature, seeded
from nextmove.evaluation.machine import machine, versions
from nextmove.host.files import write_json
from nextmove.interop import pi
from nextmove.interop.pi import layout
from nextmove.interop.pi.composed import recipe
from nextmove.interop.pi.config import Pi0Config, Sizes, Stack, parse
from nextmove.models.policy import PolicySpec
from nextmove.nn.feedforward import DenseMlp

CAMERA, OWN, WIDTH, BLOCK = "observation.images.base_0_rgb", "observation.state", 32, 1 << 20


def small() -> Sizes:
    """Sizes that take no time."""
    tower = replace(Sizes().tower, width=16, layers=1, heads=2, feedforward=DenseMlp(24))
    return Sizes(tower, Stack(32, 2, 48, 4, 1, 8), Stack(16, 2, 24, 4, 1, 8), 300)


def config() -> Pi0Config:
    """LeRobot's words for it."""
    features = {CAMERA: {"type": "VISUAL", "shape": [3, 224, 224]}, OWN: {"type": "STATE", "shape": [WIDTH]}}
    made = {"action": {"type": "ACTION", "shape": [WIDTH]}}
    return parse({"type": "pi0", "input_features": features, "output_features": made, "normalization_mapping": {}})


def write(folder: Path, sizes: Sizes) -> float:
    """Writes config and weights, and returns their GB; a block of draws is repeated, so that it takes no memory."""
    inputs = {CAMERA: Feature("image", (224, 224, 3)), OWN: Feature("state", (WIDTH,)), TASK: Feature("text")}
    with weights.without_storage():
        policy = recipe(config(), sizes, PolicySpec(inputs, WIDTH, 50.0)).build(PolicySpec(inputs, WIDTH, 50.0))
    shapes = {n: tuple(v.shape) for n, v in layout.shapes(layout.table(policy), policy.state_dict()).items()}
    shapes[layout.HEAD] = shapes.pop(layout.EMBEDDING)
    header: dict[str, Any] = {}
    end = 0
    for name, shape in sorted(shapes.items()):
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    rng = seeded(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        for _, shape in sorted(shapes.items()):
            spread = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.0
            block = (torch.randn(BLOCK, generator=rng) * spread).bfloat16().view(torch.int16).numpy().tobytes()
            left = 2 * math.prod(shape)
            while left > 0:
                left -= file.write(block[:left])
    plain = {"action_dim": WIDTH, "action_horizon": 50, "paligemma_variant": "gemma_2b",
             "action_expert_variant": "gemma_300m", "precision": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(plain))
    return end / 1e9


@torch.inference_mode()
def plans(policy: Any, cameras: int, words: int, count: int) -> list[dict[str, float]]:
    """Milliseconds of each of so many plans, part by part."""
    encoder, found = policy.encoder, []
    names = encoder.cameras[:cameras]
    obs = {name: torch.randint(0, 256, (1, 1, 224, 224, 3), dtype=torch.uint8) for name in names}
    ids, state = torch.randint(0, len(encoder.language.embedding.weight), (1, words)), torch.zeros(1, WIDTH)
    for _ in range(count):
        marks = [time.perf_counter()]
        seen = encoder.looked([encoder.seen(obs, name, 1) for name in names])
        marks.append(time.perf_counter())
        ctx = encoder.prefix(seen, ids, None, state)
        marks.append(time.perf_counter())
        x = policy.decoder.sample(ctx, shape=policy.shape, rng=seeded(0))
        marks.append(time.perf_counter())
        assert bool(x.isfinite().all())
        parts = [1000 * (b - a) for a, b in pairwise(marks)]
        found.append(dict(zip(("sight", "prefix", "denoising"), parts, strict=True)) | {"plan": sum(parts)})
    return found


def table(
    options: argparse.Namespace, gb: float, seconds: float, made: list[dict[str, float]], peak: float
) -> dict[str, Any]:
    """A table for docs/data: the first plan, in which weights are first touched, and the median of those after it."""
    parts = ("plan", "sight", "prefix", "denoising")
    later = made[1:] or made
    rows = [["the first plan", *(f"{made[0][part] / 1000:.2f}" for part in parts)]]
    rows += [["later plans", *(f"{statistics.median(one[part] for one in later) / 1000:.2f}" for part in parts)]]
    return {
        "title": "pi0 at its published size: a chunk on a CPU",
        "command": f"python benchmarks/large_policy.py --out {options.out}",
        "note": f"Random weights in bf16, computed in bf16, {options.cameras} cameras of 224 px, {options.words} "
        f"words, ten steps, chunks of 50, {options.threads} threads. {gb:.2f} GB are read in {seconds:.1f} s; at most "
        f"{peak:.1f} GB of memory are held. Later plans: the median of {len(later)}.",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "versions": versions(),
        "columns": ["", *(f"{'a chunk' if part == 'plan' else part}, s" for part in parts)],
        "rows": rows,
    }


def main() -> None:
    """Writes, loads, plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("cameras", 3), ("words", 48), ("threads", 2), ("plans", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = small() if options.small else Sizes()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        gb = write(Path(place), sizes)
        began = time.perf_counter()
        policy = pi.load_openpi(place, fps=50.0, sizes=sizes).policy
        seconds = time.perf_counter() - began
    made = plans(policy, options.cameras, options.words, options.plans)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"file_gb": gb, "load_s": seconds, "plans_ms": made, "peak_gb": peak}))
    if options.out:
        write_json(options.out, table(options, gb, seconds, made, peak), indent=1)


if __name__ == "__main__":
    main()
