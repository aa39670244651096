"""LeRobot's side of the speed comparison, run in its own environment beside ours, in one sitting on an idle machine.

    python benchmarks/data_speed.py --keep SETS                             # ours; writes the two sets
    /path/to/lerobot/bin/python benchmarks/lerobot_speed.py data SETS       # LeRobot 0.6.1 on the same files
    /path/to/lerobot/bin/python benchmarks/lerobot_speed.py policies NETS   # its networks; saves them
    python benchmarks/policy_speed.py --folders NETS                        # ours, from the saved weights too
    /path/to/lerobot/bin/python benchmarks/lerobot_speed.py start

The environment: Python 3.12, `pip install "lerobot[dataset]==0.6.1" "diffusers<0.40"`. Set OMP_WAIT_POLICY=PASSIVE for
both sides. JSON lines; time is the wall's, medians where there are repetitions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATE, ENVIRONMENT, ACTION = 2, 16, 2


def policies(folder: Path, seconds: float, threads: int) -> None:
    """Training steps a second at batch 256 and milliseconds per chunk at batch 1; saves weights, inputs, outputs."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    features: dict[str, Any] = {
        "input_features": {
            "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (ENVIRONMENT,)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        "device": "cpu",
        "push_to_hub": False,
    }
    chunk = {"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8}
    sampling = {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}

    def unet(*widths: int) -> tuple[Any, Any]:
        config = DiffusionConfig(**features, **chunk, **sampling, down_dims=widths)
        return DiffusionPolicy(config), make_diffusion_pre_post_processors

    def act() -> tuple[Any, Any]:
        config = ACTConfig(**features, chunk_size=16, n_action_steps=8, dim_model=256, dim_feedforward=1024)
        return ACTPolicy(config), make_act_pre_post_processors

    runs: dict[str, Callable[[], tuple[Any, Any]]] = {
        "diffusion_unet_256_512_1024_h16_b256": lambda: unet(256, 512, 1024),
        "diffusion_unet_128_256_512_h16_b256": lambda: unet(128, 256, 512),
        "act_d256_l4_chunk16_b256": act,
    }
    widths = {"observation.state": STATE, "observation.environment_state": ENVIRONMENT, "action": ACTION}
    stats = {
        name: {"mean": torch.zeros(n), "std": torch.ones(n), "min": -torch.ones(n), "max": torch.ones(n)}
        for name, n in widths.items()
    }
    for name, make in runs.items():
        torch.manual_seed(0)
        policy, processors = make()
        lead = () if name.startswith("act") else (2,)
        one = {n: torch.randn(1, *lead, w) for n, w in widths.items() if n != "action"}
        noise = torch.randn(1, 16, ACTION)
        options = {"noise": noise} if lead else {}
        policy.eval()
        before, after = processors(policy.config, dataset_stats=stats)
        for part in (policy, before, after):
            part.save_pretrained(folder / name)
        times = []
        with torch.inference_mode():
            for _ in range(33):
                began = time.perf_counter()
                made = policy.predict_action_chunk(dict(one), **options)
                times.append(1000 * (time.perf_counter() - began))
        case = {f"in.{n}": v.contiguous() for n, v in one.items()}
        save_file(case | {"noise": noise, "out": made.contiguous()}, folder / name / "case.safetensors")
        rate = _steps(policy.train(), widths, lead, seconds)
        row = {
            "run": name, "params_M": round(sum(p.numel() for p in policy.parameters()) / 1e6, 2),
            "steps_per_s": round(rate, 3), "ms_per_chunk": round(statistics.median(times[3:]), 2), "threads": threads,
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def _steps(policy: Any, widths: dict[str, int], lead: tuple[int, ...], seconds: float) -> float:
    optim = torch.optim.AdamW(policy.parameters(), 1e-4)
    batch = {n: torch.randn(256, *lead, w) for n, w in widths.items() if n != "action"}
    batch |= {
        "action": torch.randn(256, 16, ACTION).clamp(-1, 1),
        "action_is_pad": torch.zeros(256, 16, dtype=torch.bool),
    }
    count, began = -1, 0.0
    while True:
        loss, _ = policy.forward(dict(batch))
        optim.zero_grad()
        loss.backward()
        optim.step()
        count += 1
        if count == 0:  # The first step warms up.
            began = time.perf_counter()
        elif time.perf_counter() - began > seconds:
            return count / (time.perf_counter() - began)


def data(root: Path, batches: int, video_batches: int) -> None:
    """Windows a second of its data set class and torch's DataLoader, on the sets that data_speed.py kept."""
    from lerobot.datasets import LeRobotDataset, video_utils

    torch.set_num_threads(1)
    seen, due = [-0.1, 0.0], [i / 10 for i in range(-1, 15)]
    out: dict[str, Any] = {}
    for name, cameras in (("state", 0), ("video", 2)):
        times = {
            "observation.state": seen,
            "action": due,
            **{f"observation.images.cam{c}": seen for c in range(cameras)},
        }
        began = time.perf_counter()
        dataset = LeRobotDataset(
            "bench/set", root=root / name, delta_timestamps=times, video_backend="pyav", return_uint8=True
        )
        out[f"open_{name}_s"] = round(time.perf_counter() - began, 3)
        for workers in (0, 1, 2):
            # A decoder opened before the fork is shared with the workers and returns garbage.
            video_utils._default_decoder_cache.clear()
            steps = iter(torch.utils.data.DataLoader(dataset, 64, shuffle=True, num_workers=workers, drop_last=True))
            next(steps)
            count = video_batches if cameras else batches
            began = time.perf_counter()
            for _ in range(count):
                next(steps)
            out[f"{name}_workers{workers}"] = round(64 * count / (time.perf_counter() - began), 1)
            del steps
    print(json.dumps(out), flush=True)


def start() -> None:
    """Seconds of fresh processes, best of three, and the size of what is installed."""
    python = Path(sys.executable)
    commands = {
        "lerobot-train --help": [str(python.parent / "lerobot-train"), "--help"],
        "import LeRobotDataset": [str(python), "-c", "from lerobot.datasets import LeRobotDataset"],
        "import lerobot": [str(python), "-c", "import lerobot"],
    }
    seconds = {}
    for name, command in commands.items():
        times = []
        for _ in range(4):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        seconds[name] = round(statistics.median(times[1:]), 2)
    packages = [Path(p) for p in sys.path if p.endswith("site-packages")]
    size = sum(f.stat().st_size for p in packages for f in p.rglob("*") if f.is_file() and not f.is_symlink())
    print(json.dumps({"seconds": seconds, "installed_MB": round(size / 2**20)}), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("policies", "data", "start"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/speed"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--video-batches", type=int, default=6)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.what == "policies":
        policies(args.folder, args.seconds, args.threads)
    elif args.what == "data":
        data(args.folder, args.batches, args.video_batches)
    else:
        start()


if __name__ == "__main__":
    main()
