"""Training steps a second and milliseconds per chunk of equal networks, one JSON line each.

    python benchmarks/policy_speed.py [--seconds 20] [--threads 2] [--bf16] [--folders NETS] [--openvino]

Batches of random states (2 robot and 16 environment numbers, 2 observed steps, 16 actions of 2), AdamW step included,
data loading excluded: the setting of LeRobot's policies at the sizes given. With the networks that `lerobot_speed.py
policies NETS` saved, milliseconds are those of its weights on its input, and `max_abs_diff` says how far our chunk is
from its; with `--openvino` also of the same network compiled. Quote ratios of runs made side by side on an idle
machine.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nextmove.contracts import Rows, normal, seeded, total
from nextmove.decoders import Diffusion, Latent, Regression, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.solvers import Ddim
from nextmove.interop import load
from nextmove.interop.openvino import compiled
from nextmove.models.policy import Policy, PolicySpec, Representation
from nextmove.models.policy.act import Act
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.nn import Detr, Posterior, UNet1d

SPEC = PolicySpec({"observation.state": 2, "observation.environment_state": 16}, 2, 10.0)
PLAIN = Representation(view="plain", actions="absolute", noise=0.0)


def unet(*widths: int) -> DiffusionPolicy:
    """LeRobot's Diffusion Policy of these widths: 128 wide step embedding, ten DDIM steps at run time."""
    decoder = Diffusion(
        trunk=UNet1d(widths=widths, time_width=128), sampler=Sampler(Ddim(), 10, Indices(), clip=1.0)
    )  # fmt: skip
    return replace(DiffusionPolicy(), decoder=decoder, representation=PLAIN)


def act() -> Act:
    """LeRobot's ACT of width 256 with one decoder layer."""
    sizes: dict[str, Any] = {"width": 256, "heads": 8, "feedforward": 1024}
    decoder = Latent(
        inner=Regression(trunk=Detr(**sizes, parts=(32, 2, 16)), loss="l1"), posterior=Posterior(**sizes, state=2)
    )
    recipe = Act()
    return replace(recipe, decoder=decoder, representation=PLAIN, timing=replace(recipe.timing, n_obs_steps=1))


RUNS: dict[str, Callable[[], Any]] = {
    "diffusion_unet_256_512_1024_h16_b256": lambda: unet(256, 512, 1024),
    "diffusion_unet_128_256_512_h16_b256": lambda: unet(128, 256, 512),
    "act_d256_l4_chunk16_b256": act,
}


def windows(policy: Policy, count: int) -> dict[str, torch.Tensor]:
    batch = {f: normal((count, policy.n_obs_steps, w), seeded(i)) for i, (f, w) in enumerate(SPEC.features.items())}
    return batch | {
        "action": normal((count, 16, 2), seeded(9)).clamp(-1, 1),
        "action_is_pad": torch.zeros(count, 16, dtype=torch.bool),
    }


def steps_per_second(policy: Policy, seconds: float, bf16: bool) -> float:
    batch = windows(policy, 256)
    optim = torch.optim.AdamW(policy.parameters(), 1e-4, fused=True)
    count, began = -1, 0.0
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = total(policy.loss(batch, rng=seeded(count + 1)))
        optim.zero_grad()
        loss.backward()
        optim.step()
        count += 1
        if count == 0:  # The first step warms up.
            began = time.perf_counter()
        elif time.perf_counter() - began > seconds:
            return count / (time.perf_counter() - began)


def ms_per_chunk(policy: Policy, repeats: int = 30) -> float:
    policy.eval()
    batch = windows(policy, 1)
    times = []
    for call in range(repeats + 3):
        began = time.perf_counter()
        policy.act(batch, rng=Rows([seeded(call)]))
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[3:])


def foreign(folder: Path, openvino: bool, repeats: int = 30) -> dict[str, float]:
    """A chunk of a network that LeRobot saved: milliseconds, and how far it is from LeRobot's own."""
    loaded, case = load(folder, fps=10.0), load_file(folder / "case.safetensors")
    if openvino:
        compiled(loaded.policy)
    act = loaded.report.family == "act"
    given = {name.removeprefix("in."): value for name, value in case.items() if name.startswith("in.")}
    given = {name: value[:, None] if act else value for name, value in given.items()}
    draws = {} if act else {"noise": case["noise"]}
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        x = loaded.predict(loaded.preprocess(given), **draws)
        made = loaded.postprocess(x)
        times.append(1000 * (time.perf_counter() - began))
    made = made if act else loaded.executed(made)
    return {
        "ms_per_chunk": round(statistics.median(times[3:]), 2),
        "max_abs_diff": float((made - case["out"]).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--folders", type=Path)
    parser.add_argument("--openvino", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, recipe in RUNS.items():
        if args.only not in name:
            continue
        torch.manual_seed(0)
        policy = recipe().build(SPEC)
        policy.fit([windows(policy, 256)])
        rate = steps_per_second(policy, args.seconds, args.bf16)
        row = {
            "run": name, "params_M": round(sum(p.numel() for p in policy.parameters()) / 1e6, 2), "bf16": args.bf16,
            "steps_per_s": round(rate, 3), "ms_per_chunk": round(ms_per_chunk(policy), 1), "threads": args.threads,
        }  # fmt: skip
        if args.folders:
            row |= foreign(args.folders / name, openvino=False)
        if args.folders and args.openvino:
            row |= {f"openvino_{key}": value for key, value in foreign(args.folders / name, openvino=True).items()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
