"""Milliseconds per chunk of LeRobot's policies with a camera, in LeRobot and here with its weights; one JSON line each.

    python benchmarks/camera_policy_speed.py --peer LEROBOT/bin/python [--rounds 15] [--threads 2] [--only act]

ACT of the published size with one camera of 480 x 640, and Diffusion Policy of 262.7 M weights with one of 96 x 96 and
ten DDIM steps, at the horizon of LeRobot 0.6 (64) and at that of before (16, group norm). This script run by LeRobot's
Python (`--theirs FOLDER`) saves each policy with an input and its chunk, and then takes turns with ours, a chunk each:
the same weights by torch, and by OpenVINO with encoder and network both compiled, in float32, which is the exact mode,
and in bf16 where the processor computes it, which is not: `max_abs_diff` says how far its chunk lies from LeRobot's, in
units of the model. Ours is handed bytes and
gives actions in raw units, LeRobot's is handed what its processors make and gives what they take. Ratios are medians of
paired ratios; `busy` are milliseconds of processor time, which other programs on the machine change less.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import turns
from nextmove.config import ConfigError

STATE, CAMERA = "observation.state", "observation.images.top"
DDIM = {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}
RUNS: dict[str, tuple[tuple[int, int], int, dict[str, Any]]] = {
    "act_480x640": ((480, 640), 14, {}),
    "diffusion_96_h64": ((96, 96), 2, DDIM),
    "diffusion_96_h16": ((96, 96), 2, {**DDIM, "horizon": 16, "n_action_steps": 8, "use_group_norm": True}),
}
"""Size of the camera, width of state and action, and what differs from LeRobot's defaults."""


def timed(act: Any) -> tuple[float, float]:
    """Milliseconds on the clock and of the processor."""
    wall, busy = time.perf_counter(), time.process_time()
    act()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - busy)


class Theirs:
    """One of LeRobot's policies with an input for it."""

    def __init__(self, name: str, folder: Path) -> None:
        from lerobot.configs import FeatureType, PolicyFeature
        from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

        size, width, options = RUNS[name]
        kind = name.partition("_")[0]
        config = make_policy_config(
            kind,
            input_features={
                STATE: PolicyFeature(FeatureType.STATE, (width,)),
                CAMERA: PolicyFeature(FeatureType.VISUAL, (3, *size)),
            },
            output_features={"action": PolicyFeature(FeatureType.ACTION, (width,))},
            pretrained_backbone_weights=None, device="cpu", push_to_hub=False, **options,
        )  # fmt: skip
        torch.manual_seed(0)
        self.policy = get_policy_class(kind)(config).eval()
        lead = () if kind == "act" else (config.n_obs_steps,)
        pixels = torch.randint(0, 256, (1, *lead, *size, 3), dtype=torch.uint8)
        state, self.noise = torch.randn(1, *lead, width), torch.randn(1, 64 if "h64" in name else 16, width)
        self.one = {STATE: state, CAMERA: pixels.movedim(-1, -3).float() / 255}
        self.options = {} if kind == "act" else {"noise": self.noise}
        stats = {n: {"mean": torch.zeros(s), "std": torch.ones(s), "min": -torch.ones(s), "max": torch.ones(s)}
                 for n, s in ((STATE, (width,)), ("action", (width,)), (CAMERA, (3, 1, 1)))}  # fmt: skip
        for part in (self.policy, *make_pre_post_processors(config, dataset_stats=stats)):
            part.save_pretrained(folder / name)
        self()
        case = {STATE: state, CAMERA: pixels, "noise": self.noise, "out": self.made.contiguous()}
        save_file(case, folder / name / "case.safetensors")

    def __call__(self) -> tuple[float, float]:
        with torch.inference_mode():
            return timed(self._plan)

    def _plan(self) -> None:
        self.made = self.policy.predict_action_chunk(dict(self.one), **self.options)


class Ours:
    """The policy that LeRobot saved, read into ours."""

    def __init__(self, folder: Path, precision: str | None) -> None:
        from nextmove.interop import lerobot
        from nextmove.runtime import compiled

        self.loaded, self.case = lerobot.load(folder, fps=10.0), load_file(folder / "case.safetensors")
        if precision:
            compiled(self.loaded.policy, precision)  # type: ignore[arg-type]
        self.act = self.loaded.report.family == "act"
        given = {name: self.case[name] for name in (STATE, CAMERA)}
        self.given = {name: value[:, None] if self.act else value for name, value in given.items()}
        self.draws = {} if self.act else {"noise": self.case["noise"]}

    def __call__(self) -> tuple[float, float]:
        with torch.inference_mode():
            return timed(self._plan)

    def _plan(self) -> None:
        x = self.loaded.predict(self.loaded.preprocess(self.given), **self.draws)
        made = self.loaded.postprocess(x)
        self.made = made if self.act else self.loaded.executed(made)

    @property
    def away(self) -> float:
        return float((self.made - self.case["out"]).abs().max())


def measure(name: str, given: argparse.Namespace, peer: turns.Peer, folder: Path) -> dict[str, Any]:
    """One policy's row."""
    peer("make", run=name)
    ours = {"torch": Ours(folder / name, None), "openvino": Ours(folder / name, "float32")}
    with suppress(ConfigError):  # no processor without bf16 units
        ours["openvino-bf16"] = Ours(folder / name, "bf16")
    sides: dict[str, Any] = {"lerobot": partial(peer, "chunk"), **ours}
    found = turns.turns(sides, given.rounds, 2)
    wall, busy = ({side: [both[i] for both in pairs] for side, pairs in found.items()} for i in (0, 1))  # type: ignore[index]
    return {
        "run": name,
        "params_M": round(sum(p.numel() for p in ours["torch"].loaded.policy.parameters()) / 1e6, 1),
        "threads": given.threads,
        "ms": {side: round(median(times), 1) for side, times in wall.items()},
        "least": {side: round(min(times), 1) for side, times in wall.items()},
        "busy": {side: round(median(times), 1) for side, times in busy.items()},
        "ratio": {side: round(turns.ratio(wall["lerobot"], wall[side]), 2) for side in ours},
        "busy_ratio": {side: round(turns.ratio(busy["lerobot"], busy[side]), 2) for side in ours},
        "max_abs_diff": {side: own.away for side, own in ours.items()},
        "load": [round(x, 1) for x in os.getloadavg()],
    }


def theirs(folder: Path) -> None:
    """LeRobot's side: makes the policy it is told to, and plans."""
    made: dict[str, Theirs] = {}

    def make(run: str) -> None:
        made.clear()
        made["now"] = Theirs(run, folder)

    turns.answer({"make": make, "chunk": lambda: made["now"]()})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with LeRobot 0.6.1 and diffusers")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.theirs:
        theirs(given.theirs)
        return
    for name in RUNS:
        if given.only in name:
            with TemporaryDirectory() as folder:
                command = [given.peer, __file__, "--theirs", folder, "--threads", str(given.threads)]
                with turns.Peer(command) as peer:
                    print(json.dumps(measure(name, given, peer, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
