"""Training steps a second of ACT with one 96 px camera, equal networks, beside LeRobot's.

    python benchmarks/camera_speed.py --peer LEROBOT/bin/python [--seconds 12] [--threads 2]

Batches of random images (ours bytes, LeRobot's floats, as each trains on), states and actions of 14 numbers; the AdamW
step is included, data loading is not. Both sides take turns; ratios are medians of paired ratios, above 1 where ours is
faster. The peer's environment is that of `lerobot_speed.py`; it runs this file with `--answer`. A JSON line each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

import turns

WIDTH, SIDE = 14, 96
STATE, CAMERA = "observation.state", "observation.images.top"
RUNS: dict[str, dict[str, int]] = {
    "act_camera96_d512_chunk100_b8": {"batch": 8, "chunk": 100, "width": 512, "feedforward": 3200},
    "act_camera96_d256_chunk16_b64": {"batch": 64, "chunk": 16, "width": 256, "feedforward": 1024},
}
Steps = Callable[[float], float]


def timed(step: Callable[[int], torch.Tensor], optim: torch.optim.Optimizer) -> Steps:
    """Training steps a second over about so many seconds, at least one step."""

    def steps(seconds: float) -> float:
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < seconds:
            loss = step(count)
            optim.zero_grad()
            loss.backward()
            optim.step()
            count += 1
        return count / (time.perf_counter() - began)

    return steps


def drawn(batch: int, chunk: int, lead: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """State and actions of a batch."""
    return {
        STATE: torch.randn(batch, *lead, WIDTH),
        "action": torch.randn(batch, chunk, WIDTH),
        "action_is_pad": torch.zeros(batch, chunk, dtype=torch.bool),
    }


def theirs(*, batch: int, chunk: int, width: int, feedforward: int) -> tuple[Steps, int]:
    """LeRobot's ACT and its number of parameters."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    inputs = {
        STATE: PolicyFeature(FeatureType.STATE, (WIDTH,)),
        CAMERA: PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)),
    }
    config = ACTConfig(
        input_features=inputs, output_features={"action": PolicyFeature(FeatureType.ACTION, (WIDTH,))}, device="cpu",
        push_to_hub=False, pretrained_backbone_weights=None, chunk_size=chunk, n_action_steps=chunk, dim_model=width,
        dim_feedforward=feedforward,
    )  # fmt: skip
    policy = ACTPolicy(config).train()
    rows = drawn(batch, chunk, ()) | {CAMERA: torch.rand(batch, 3, SIDE, SIDE)}
    optim = torch.optim.AdamW(policy.parameters(), 1e-5)
    return timed(lambda _: policy.forward(dict(rows))[0], optim), sum(p.numel() for p in policy.parameters())


def ours(bf16: bool, *, batch: int, chunk: int, width: int, feedforward: int) -> tuple[Steps, int]:
    """The same network of ours."""
    from dataclasses import replace

    from nextmove.contracts import Feature, seeded, total
    from nextmove.decoders import Latent, Regression
    from nextmove.encoders import Observation, State
    from nextmove.models.policy import PolicySpec, Timing
    from nextmove.models.policy.act import Act
    from nextmove.nn import ActVaeEncoder, Detr

    spec = PolicySpec({STATE: Feature("state", (WIDTH,)), CAMERA: Feature("image", (SIDE, SIDE, 3))}, WIDTH, 50.0)
    published = Act.published(spec.inputs)
    camera: Any = published.encoder.parts[1]
    sizes: dict[str, Any] = {"width": width, "feedforward": feedforward}
    recipe = replace(
        published,
        timing=Timing(n_obs_steps=1, horizon=chunk, n_action_steps=chunk),
        encoder=Observation((State((STATE,), view="plain", noise=0.0), replace(camera, width=width))),
        decoder=Latent(Regression(Detr(**sizes, parts=(32, WIDTH)), loss="l1"), ActVaeEncoder(**sizes)),
    )
    policy = recipe.build(spec).train()
    rows = drawn(batch, chunk, (1,))
    rows[CAMERA] = torch.randint(256, (batch, 1, SIDE, SIDE, 3), dtype=torch.uint8)
    policy.fit([rows])
    optim = torch.optim.AdamW(policy.parameters(), 1e-5, fused=True)

    def step(number: int) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return total(policy.loss(rows, rng=seeded(number)))

    return timed(step, optim), sum(p.numel() for p in policy.parameters())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with LeRobot")
    parser.add_argument("--answer", action="store_true", help="be the peer")
    parser.add_argument("--seconds", type=float, default=12, help="of training, of each side")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.answer:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        made = {name: theirs(**sizes) for name, sizes in RUNS.items()}
        turns.answer(
            {name: steps for name, (steps, _) in made.items()}, {name: size for name, (_, size) in made.items()}
        )
        return
    with turns.Peer([given.peer, __file__, "--answer", "--threads", str(given.threads)]) as peer:
        for name, sizes in RUNS.items():
            sides = {}
            for side, bf16 in (("float32", False), ("bf16", True)):
                steps, size = ours(bf16, **sizes)
                sides[side] = partial(steps, given.seconds / given.rounds)
            sides["lerobot"] = partial(peer, name, seconds=given.seconds / given.rounds)
            found = turns.turns(sides, given.rounds)
            row = {
                "run": name, "params_M": round(size / 1e6, 2), "threads": given.threads,
                "steps_per_s": {side: round(median(values), 3) for side, values in found.items()},
                "ratio": {s: round(turns.ratio(found[s], found["lerobot"]), 2) for s in ("float32", "bf16")},
            }  # fmt: skip
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
