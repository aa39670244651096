"""What a plan takes with the network computed by torch and by OpenVINO; one JSON line for each policy.

    python benchmarks/runtime_speed.py RUN[@SAMPLER:STEPS] ... [--plans 100] [--threads 1] [--simulator pusht]
        [--precision float32|bf16|int8]

Both plan from the start of a held-out episode with the same noise and take turns; `ratio` is the median of paired
ratios. `compiled_s` is the first plan where nothing is kept yet, `kept_s` that of the same policy loaded again, which
finds its programs. Milliseconds at p50 and p99, plans a second that hold in 99 of 100 cases, and how far the two plans
are apart.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import time
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from nextmove import control, sim
from nextmove.contracts import Rows, seeded
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.simulated import HELD_OUT
from nextmove.models.policy import Policy
from turns import ratio, turns

RUNTIMES = ("torch", "openvino")
WARM = 3


def compare(asked: str, plans: int, simulator: str, precision: Any) -> dict[str, Any]:
    """One policy on both runtimes."""
    run, _, how = asked.partition("@")
    sampler, _, steps = how.partition(":")
    load = partial(load_policy, run, sampler=sampler or None, steps=int(steps or 0))
    fast = partial(load, runtime="openvino", precision=precision)
    made = [load(), fast()]
    obs, _ = sim.make(simulator).reset(seed=HELD_OUT)
    shown = control.history([obs] * made[0].n_obs_steps)
    began = time.perf_counter()
    made[1].act(shown, rng=Rows([seeded(0)]))
    row: dict[str, Any] = {"policy": asked, "precision": precision, "max_abs_diff": 0.0}
    row["compiled_s"], again = round(time.perf_counter() - began, 1), fast()
    began = time.perf_counter()
    again.act(shown, rng=Rows([seeded(0)]))
    row["kept_s"] = round(time.perf_counter() - began, 2)
    answers: dict[str, list[torch.Tensor]] = {name: [] for name in RUNTIMES}

    def plan(name: str, policy: Policy) -> float:
        rng = Rows([seeded(len(answers[name]))])
        began = time.perf_counter()
        answers[name].append(policy.act(shown, rng=rng).actions)
        return 1000 * (time.perf_counter() - began)

    ms = turns({name: partial(plan, name, p) for name, p in zip(RUNTIMES, made, strict=True)}, plans, WARM)
    row["max_abs_diff"] = max(float((a - b).abs().max()) for a, b in zip(*answers.values(), strict=True))
    for name, times in ms.items():
        p50, p99 = np.percentile(times, [50, 99])
        row[name] = {"p50": round(p50, 2), "p99": round(p99, 2), "hz": round(1000 / p99, 1)}
    return row | {"ratio": round(ratio(ms["torch"], ms["openvino"]), 2)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN[@SAMPLER:STEPS]")
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--simulator", default="pusht")
    parser.add_argument("--precision", choices=("float32", "bf16", "int8"), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for asked in arguments.runs:
            row = compare(asked, arguments.plans, arguments.simulator, arguments.precision)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
