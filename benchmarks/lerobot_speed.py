"""LeRobot's side of the speed comparison, run in its own environment beside ours.

    python benchmarks/policy_speed.py --peer /path/to/lerobot/bin/python    # starts `policies` here, and takes turns
    python benchmarks/startup.py --peer /path/to/lerobot/bin/python
    python benchmarks/data_speed.py --keep SETS                             # ours; writes the two sets
    /path/to/lerobot/bin/python benchmarks/lerobot_speed.py data SETS       # LeRobot 0.6.1 on the same files

The environment: Python 3.12, `pip install "lerobot[dataset]==0.6.1" "diffusers<0.40"`. Set OMP_WAIT_POLICY=PASSIVE for
both sides. JSON lines; time is the wall's.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import turns

STATE, ENVIRONMENT, ACTION = 2, 16, 2


def policies(folder: Path, threads: int) -> None:
    """Saves its networks with weights, an input and an output, then answers `policy_speed.py`, one repetition a line.

    NAME train: training steps a second at batch 256 over `seconds`; NAME chunk: milliseconds of a chunk at batch 1.
    """
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

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
    actions: dict[str, Callable[..., float]] = {}
    sizes = {}
    for name, make in runs.items():
        torch.manual_seed(0)
        side = Side(name, *make())
        side.save(folder / name)
        actions |= {f"{name} train": side.train, f"{name} chunk": side.chunk}
        sizes[name] = round(sum(p.numel() for p in side.policy.parameters()) / 1e6, 2)
    turns.answer(actions, sizes)


class Side:
    """One of its policies, an input for it, and what is measured on it."""

    def __init__(self, name: str, policy: Any, processors: Any) -> None:
        self.policy, self.processors = policy, processors
        self.lead = () if name.startswith("act") else (2,)
        self.widths = {"observation.state": STATE, "observation.environment_state": ENVIRONMENT, "action": ACTION}
        self.one = {n: torch.randn(1, *self.lead, w) for n, w in self.widths.items() if n != "action"}
        self.noise = torch.randn(1, 16, ACTION)
        self.optim = torch.optim.AdamW(policy.parameters(), 1e-4)
        self.batch = {n: torch.randn(256, *self.lead, w) for n, w in self.widths.items() if n != "action"}
        self.batch |= {
            "action": torch.randn(256, 16, ACTION).clamp(-1, 1),
            "action_is_pad": torch.zeros(256, 16, dtype=torch.bool),
        }

    def save(self, folder: Path) -> None:
        """The checkpoint as its users save it, and in case.safetensors an input, noise and the chunk they give."""
        from safetensors.torch import save_file

        stats = {
            name: {"mean": torch.zeros(n), "std": torch.ones(n), "min": -torch.ones(n), "max": torch.ones(n)}
            for name, n in self.widths.items()
        }
        before, after = self.processors(self.policy.config, dataset_stats=stats)
        for part in (self.policy, before, after):
            part.save_pretrained(folder)
        self.chunk()
        case = {f"in.{n}": v.contiguous() for n, v in self.one.items()}
        save_file(case | {"noise": self.noise, "out": self.made.contiguous()}, folder / "case.safetensors")

    def chunk(self) -> float:
        """Milliseconds of a chunk from the one input."""
        self.policy.eval()
        options = {"noise": self.noise} if self.lead else {}
        with torch.inference_mode():
            began = time.perf_counter()
            self.made = self.policy.predict_action_chunk(dict(self.one), **options)
            return 1000 * (time.perf_counter() - began)

    def train(self, seconds: float) -> float:
        """Training steps a second over about so many seconds, at least one step."""
        self.policy.train()
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < seconds:
            loss, _ = self.policy.forward(dict(self.batch))
            self.optim.zero_grad()
            loss.backward()
            self.optim.step()
            count += 1
        return count / (time.perf_counter() - began)


def frames(root: Path) -> None:
    """Answers `frames_speed.py`: windows a second of its data set class on two cameras."""
    from lerobot.datasets import LeRobotDataset, video_utils

    torch.set_num_threads(1)
    seen, due = [-0.1, 0.0], [i / 10 for i in range(-1, 15)]
    times = {"observation.state": seen, "action": due, **{f"observation.images.cam{c}": seen for c in range(2)}}
    dataset = LeRobotDataset("bench/set", root=root, delta_timestamps=times, video_backend="pyav", return_uint8=True)

    def rate(workers: int, batches: int) -> float:
        video_utils._default_decoder_cache.clear()  # as in `data`
        steps = iter(torch.utils.data.DataLoader(dataset, 64, shuffle=True, num_workers=workers, drop_last=True))
        next(steps)
        began = time.perf_counter()
        for _ in range(batches):
            next(steps)
        return 64 * batches / (time.perf_counter() - began)

    turns.answer({"rate": rate})


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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("policies", "data", "frames"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/speed"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--video-batches", type=int, default=6)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.what == "policies":
        policies(args.folder, args.threads)
    elif args.what == "frames":
        frames(args.folder)
    else:
        data(args.folder, args.batches, args.video_batches)


if __name__ == "__main__":
    main()
