"""Training steps a second and milliseconds per chunk of equal networks, one JSON line each.

    python benchmarks/policy_speed.py [--peer LEROBOT/bin/python] [--seconds 20] [--threads 2] [--bf16] [--openvino]

Batches of random states (2 robot and 16 environment numbers, 2 observed steps, 16 actions of 2), AdamW step included,
data loading excluded: the setting of LeRobot's policies at the sizes given. With a peer, `lerobot_speed.py policies`
runs in its environment and both sides take turns, a second of training or a chunk each; ratios are medians of paired
ratios, above 1 where ours is faster. Chunks are then made with LeRobot's weights on its input, `max_abs_diff` says how
far ours is from its, and with `--openvino` the same network compiled takes its turns too.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import itertools
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from nextmove.contracts import Rows, normal, seeded, total
from nextmove.decoders import Diffusion, Latent, Regression, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.solvers import Ddim
from nextmove.encoders import Observation, State
from nextmove.folders import open_folder
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.act import Act
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.nn import ActVaeEncoder, Detr, UNet1d
from nextmove.runtime.openvino import compiled
from turns import Peer, ratio, seconds, turns

WIDTHS = {"observation.state": 2, "observation.environment_state": 16}
SPEC = PolicySpec.of_states(WIDTHS, 2, 10.0)
PLAIN = Observation((State(view="plain", noise=0.0),))


def unet(*widths: int) -> DiffusionPolicy:
    """LeRobot's Diffusion Policy of these widths: 128 wide step embedding, ten DDIM steps at run time."""
    decoder = Diffusion(
        trunk=UNet1d(widths=widths, time_width=128), sampler=Sampler(Ddim(), 10, Indices(), clip=1.0)
    )  # fmt: skip
    return replace(DiffusionPolicy(), decoder=decoder, encoder=PLAIN)


def act() -> Act:
    """LeRobot's ACT of width 256 with one decoder layer."""
    sizes: dict[str, Any] = {"width": 256, "heads": 8, "feedforward": 1024}
    decoder = Latent(
        inner=Regression(trunk=Detr(**sizes, parts=(32, 2, 16)), loss="l1"), posterior=ActVaeEncoder(**sizes, state=2)
    )
    recipe = Act()
    return replace(recipe, decoder=decoder, encoder=PLAIN, timing=replace(recipe.timing, n_obs_steps=1))


RUNS: dict[str, Callable[[], Any]] = {
    "diffusion_unet_256_512_1024_h16_b256": lambda: unet(256, 512, 1024),
    "diffusion_unet_128_256_512_h16_b256": lambda: unet(128, 256, 512),
    "act_d256_l4_chunk16_b256": act,
}


def windows(policy: Policy, count: int) -> dict[str, torch.Tensor]:
    batch = {f: normal((count, policy.n_obs_steps, w), seeded(i)) for i, (f, w) in enumerate(WIDTHS.items())}
    return batch | {
        "action": normal((count, 16, 2), seeded(9)).clamp(-1, 1),
        "action_is_pad": torch.zeros(count, 16, dtype=torch.bool),
    }


def training(policy: Policy, bf16: bool) -> Callable[[float], float]:
    """Training steps a second over about so many seconds, at least one step."""
    batch = windows(policy, 256)
    optim = torch.optim.AdamW(policy.parameters(), 1e-4, fused=True)

    def steps(duration: float) -> float:
        policy.train()
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < duration:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = total(policy.loss(batch, rng=seeded(count)))
            optim.zero_grad()
            loss.backward()
            optim.step()
            count += 1
        return count / (time.perf_counter() - began)

    return steps


def planning(policy: Policy) -> Callable[[], float]:
    """Milliseconds of a chunk of an untrained policy."""
    batch, calls = windows(policy, 1), itertools.count()

    def plan() -> float:
        policy.eval()
        rng = Rows([seeded(next(calls))])
        return 1000 * seconds(lambda: policy.act(batch, rng=rng))()

    return plan


class Foreign:
    """A network that LeRobot saved, read into ours: `()` is milliseconds of a chunk, `away` how far it is from its."""

    def __init__(self, folder: Path, openvino: bool) -> None:
        self.loaded, self.case = open_folder(folder).foreign(fps=10.0), load_file(folder / "case.safetensors")
        if openvino:
            compiled(self.loaded.policy)
        self.act = self.loaded.report.family == "act"
        given = {name.removeprefix("in."): value for name, value in self.case.items() if name.startswith("in.")}
        self.given = {name: value[:, None] if self.act else value for name, value in given.items()}
        self.draws = {} if self.act else {"noise": self.case["noise"]}

    def __call__(self) -> float:
        began = time.perf_counter()
        x = self.loaded.predict(self.loaded.preprocess(self.given), **self.draws)
        self.made = self.loaded.postprocess(x)
        return 1000 * (time.perf_counter() - began)

    @property
    def away(self) -> float:
        made = self.made if self.act else self.loaded.executed(self.made)
        return float((made - self.case["out"]).abs().max())


def measure(name: str, given: argparse.Namespace, peer: Peer | None, folder: Path) -> dict[str, Any]:
    """One network's row."""
    torch.manual_seed(0)
    policy = RUNS[name]().build(SPEC)
    policy.fit([windows(policy, 256)])
    steps, rounds = training(policy, given.bf16), max(1, round(given.seconds))
    sides = {"nextmove": partial(steps, given.seconds / rounds)}
    plans: dict[str, Callable[[], float]] = {"nextmove": planning(policy)}
    if peer is not None:
        sides["lerobot"] = partial(peer, f"{name} train", seconds=given.seconds / rounds)
        plans = {"nextmove": Foreign(folder / name, openvino=False)}
        if given.openvino:
            plans["openvino"] = Foreign(folder / name, openvino=True)
        plans["lerobot"] = partial(peer, f"{name} chunk")
    trained, planned = turns(sides, rounds), turns(plans, given.plans, 3)
    row: dict[str, Any] = {
        "run": name, "params_M": round(sum(p.numel() for p in policy.parameters()) / 1e6, 2), "bf16": given.bf16,
        "threads": given.threads, "steps_per_s": {side: round(median(found), 3) for side, found in trained.items()},
        "ms_per_chunk": {side: round(median(found), 2) for side, found in planned.items()},
    }  # fmt: skip
    if peer is not None:
        row["training_ratio"] = round(ratio(trained["nextmove"], trained["lerobot"]), 2)
        ours = [side for side in plans if side != "lerobot"]
        row["chunk_ratio"] = {side: round(ratio(planned["lerobot"], planned[side]), 2) for side in ours}
        row["max_abs_diff"] = {side: plan.away for side, plan in plans.items() if isinstance(plan, Foreign)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with LeRobot")
    parser.add_argument("--seconds", type=float, default=20, help="of training, of each side")
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--openvino", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with ExitStack() as open_until_the_end:
        folder = Path(open_until_the_end.enter_context(TemporaryDirectory()))
        peer = None
        if given.peer:
            theirs = [given.peer, str(Path(__file__).with_name("lerobot_speed.py")), "policies", str(folder)]
            peer = open_until_the_end.enter_context(Peer([*theirs, "--threads", str(given.threads)]))
        for name in RUNS:
            if given.only in name:
                print(json.dumps(measure(name, given, peer, folder)), flush=True)


if __name__ == "__main__":
    main()
