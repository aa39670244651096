"""Make golden cases of LeRobot's ACT and Diffusion Policy with options that vary; needs LeRobot 0.6.1, or an older one.

    python benchmarks/make_lerobot_cases.py OUT [CASE ...]     # in an environment with LeRobot and diffusers

Without names, the cases that the installed release of LeRobot is to make (`release` in `CASES`, 0.6.1 unless given).

Each case is a checkpoint folder as LeRobot writes it with `weights.json` (see tests/golden/materialise.py) in place of
model.safetensors, and `io.safetensors` with raw inputs, the draws that replace random ones, outputs and losses.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import lerobot
import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "golden"))
from materialise import tensors

STATE, ENV, ACTION = "observation.state", "observation.environment_state", "action"
TOP, WRIST = "observation.images.top_cam", "observation.images.wrist"
B = 2
ACT_SIZES = {
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 24,
    "latent_dim": 4,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "pretrained_backbone_weights": None,
    "push_to_hub": False,
    "device": "cpu",
}
# Groups of few values can be nearly constant, which makes their normalisation a magnifier of rounding.
UNET_SIZES = {
    "diffusion_step_embed_dim": 8,
    "down_dims": (16, 32),
    "n_groups": 4,
    "pretrained_backbone_weights": None,
    "push_to_hub": False,
    "device": "cpu",
}
NEWEST, OLDER = "0.6.1", ("0.4.0", "0.5.1")
"""The release that makes a case unless it names another, and others: the first with files of processors, and the last
whose networks of images are shared, with group norm and from scratch."""


def act_cameras(release: str) -> dict[str, Any]:
    """A case of two cameras of different sizes, each scaled by its own statistics."""
    return {
        "release": release,
        "config": {**ACT_SIZES, "chunk_size": 5, "n_action_steps": 2},
        "norms": {"STATE": "MEAN_STD", "ACTION": "MEAN_STD", "VISUAL": "MEAN_STD", "ENV": "MIN_MAX"},
        "rename": {"observation.images.above": TOP},
        "cameras": {WRIST: (34, 33), TOP: (24, 40)},
    }


def diffusion_cameras(release: str) -> dict[str, Any]:
    """A case of two cameras of one size, as the release reads them unless told otherwise, its crop apart."""
    return {
        "release": release,
        "config": {
            **UNET_SIZES,
            "n_action_steps": 2,
            "noise_scheduler_type": "DDIM",
            "num_inference_steps": 4,
            "prediction_type": "sample",
            "spatial_softmax_num_keypoints": 4,
            "crop_shape": (33, 36),
            "do_mask_loss_for_padding": True,
        },
        "norms": {"STATE": "MIN_MAX", "ACTION": "MIN_MAX", "VISUAL": "MEAN_STD"},
        "cameras": {WRIST: (36, 41), TOP: (36, 41)},
        "env": False,
    }


CASES: dict[str, dict[str, Any]] = {
    "act_options": {
        "config": {
            **ACT_SIZES,
            "chunk_size": 6,
            "n_action_steps": 4,
            "pre_norm": True,
            "feedforward_activation": "gelu",
            "n_decoder_layers": 2,
            "dropout": 0.1,
            "kl_weight": 3.0,
        },
        "norms": {"STATE": "QUANTILES", "ACTION": "QUANTILE10", "ENV": "MIN_MAX"},
        "rename": {"observation.joints": STATE},
    },
    "act_ensemble": {
        "config": {
            **ACT_SIZES,
            "chunk_size": 5,
            "n_action_steps": 1,
            "use_vae": False,
            "temporal_ensemble_coeff": 0.05,
        },
        "norms": {"STATE": "IDENTITY", "ACTION": "MIN_MAX"},
    },
    "diffusion_ddim": {
        "config": {
            **UNET_SIZES,
            "n_obs_steps": 3,
            "horizon": 8,
            "n_action_steps": 5,
            "noise_scheduler_type": "DDIM",
            "num_train_timesteps": 50,
            "num_inference_steps": 7,
            "prediction_type": "sample",
            "beta_schedule": "linear",
            "beta_start": 0.001,
            "clip_sample_range": 0.7,
            "use_film_scale_modulation": False,
            "kernel_size": 3,
            "do_mask_loss_for_padding": True,
        },
        "norms": {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    },
    "diffusion_ddpm": {
        "config": {
            **UNET_SIZES,
            "n_obs_steps": 1,
            "horizon": 8,
            "n_action_steps": 3,
            "num_train_timesteps": 12,
            "prediction_type": "sample",
            "clip_sample": False,
        },
        "norms": {"STATE": "MIN_MAX", "ACTION": "QUANTILES"},
    },
    "act_resnet50": {
        "config": {
            **ACT_SIZES,
            "chunk_size": 4,
            "n_action_steps": 2,
            "pre_norm": True,
            "feedforward_activation": "gelu",
            "use_vae": False,
            "vision_backbone": "resnet50",
            "replace_final_stride_with_dilation": True,
        },
        "norms": {"STATE": "MIN_MAX", "ACTION": "MEAN_STD", "VISUAL": "MIN_MAX"},
        "rename": {"observation.images.above": TOP},
        "cameras": {WRIST: (34, 40), TOP: (20, 49)},
    },
    "diffusion_separate": {
        "config": {
            **UNET_SIZES,
            "horizon": 8,
            "n_action_steps": 3,
            "noise_scheduler_type": "DDIM",
            "num_train_timesteps": 20,
            "num_inference_steps": 4,
            "prediction_type": "sample",
            "spatial_softmax_num_keypoints": 3,
            "resize_shape": (43, 71),
            "crop_ratio": 0.93,
        },
        "norms": {"STATE": "MEAN_STD", "ACTION": "MIN_MAX", "VISUAL": "QUANTILES"},
        "cameras": {WRIST: (24, 41), TOP: (24, 41)},
    },
    "diffusion_resnet34": {
        "config": {
            **UNET_SIZES,
            "n_obs_steps": 1,
            "horizon": 4,
            "n_action_steps": 2,
            "num_train_timesteps": 10,
            "num_inference_steps": 3,
            "vision_backbone": "resnet34",
            "use_group_norm": True,
            "use_separate_rgb_encoder_per_camera": True,
            "spatial_softmax_num_keypoints": 4,
            "crop_shape": (33, 34),
            "crop_is_random": False,
        },
        "norms": {"STATE": "MIN_MAX", "ACTION": "MIN_MAX", "VISUAL": "IDENTITY"},
        "cameras": {"observation.image": (36, 41)},
        "env": False,
    },
    **{f"act_cameras_{release}": act_cameras(release) for release in OLDER},
    **{f"diffusion_cameras_{release}": diffusion_cameras(release) for release in OLDER},
}


def statistics(rng: np.random.Generator, width: int) -> dict[str, Any]:
    """Numbers as of a data set, the last channel of wide features being constant."""
    values = rng.normal(size=(400, width)) * rng.uniform(0.3, 4, width) + rng.normal(size=width) * 3
    if width > 3:
        values[:, -1] = values[0, -1]
    levels = {f"q{100 * q:02.0f}": np.quantile(values, q, 0) for q in (0.01, 0.1, 0.5, 0.9, 0.99)}
    whole = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {k: v.astype(np.float32) for k, v in {**whole, **levels}.items()}


def colours(rng: np.random.Generator) -> dict[str, Any]:
    """Numbers as of a camera's three channels."""
    found = statistics(rng, 3)
    low, high = rng.uniform(0, 0.1, 3), rng.uniform(0.9, 1, 3)
    found = {name: np.interp(value, (found["min"].min(), found["max"].max()), (0, 1)) for name, value in found.items()}
    found |= {"min": low, "max": high, "std": rng.uniform(0.2, 0.3, 3)}
    return {name: value.astype(np.float32)[:, None, None] for name, value in found.items()}


def kind(name: str, value: torch.Tensor) -> str:
    """How materialise.py makes a tensor."""
    if name.endswith("bias"):
        return "bias"
    if "running" in name:
        return "mean" if name.endswith("mean") else "var"
    if value.dim() == 0:
        return "zero"
    if "embed" in name.rsplit(".", 2)[-2]:
        return "embedding"
    return "norm" if value.dim() == 1 else "weight"


def give_weights(policy: torch.nn.Module, seed: int, folder: Path) -> None:
    """Writes weights.json and loads what it describes."""
    fixed = ("vae_encoder_pos_enc", "pool.pos_grid")
    own = {n: v for n, v in policy.state_dict().items() if not n.endswith(fixed)}
    described = {n: [list(v.shape), str(v.dtype).removeprefix("torch."), kind(n, v)] for n, v in own.items()}
    rows = ",\n".join(f"   {json.dumps(n)}: {json.dumps(d)}" for n, d in described.items())
    (folder / "weights.json").write_text(
        f'{{"seed": {seed}, "files": {{\n "model.safetensors": {{\n{rows}\n }}\n}}}}\n'
    )
    policy.load_state_dict({n: torch.from_numpy(v) for n, v in tensors(seed, described).items()}, strict=False)


@contextmanager
def drawn(values: Sequence[torch.Tensor], *places: str) -> Iterator[None]:
    """The functions at `places` return `values` in turn, whatever they are asked for."""
    queue = list(values)
    patches = [mock.patch(place, side_effect=lambda *a, **k: queue.pop(0).clone()) for place in places]
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


def sample(policy: Any, call: Any, io: dict[str, torch.Tensor]) -> torch.Tensor:
    """`call()` with the case's noise in place of the sampler's draws."""
    if isinstance(policy, ACTPolicy):
        return call()
    with drawn(io.get("noise.variance", []), "diffusers.schedulers.scheduling_ddpm.randn_tensor"):
        noise = io["noise.initial"].clone()
        with mock.patch("torch.randn", side_effect=lambda *a, **k: noise.clone()):
            return call()


def fill(policy: Any, inputs: dict[str, Any]) -> None:
    """Puts observations into the queues that releases before 0.6 plan from, whatever they are given."""
    if isinstance(policy, ACTPolicy) or lerobot.__version__ == NEWEST:
        return
    cameras = [inputs[name] for name in policy.config.image_features]
    seen = {**inputs, **({"observation.images": torch.stack(cameras, 2)} if cameras else {})}
    for name in set(policy._queues) - {ACTION}:
        policy._queues[name] = deque(seen[name].unbind(1), maxlen=policy.config.n_obs_steps)
    inputs |= seen
    inputs.pop(ACTION, None)


def loss(policy: Any, batch: dict[str, Any], io: dict[str, torch.Tensor]) -> None:
    """Adds the training loss for given draws: ACT in training mode without dropout, Diffusion in evaluation mode."""
    if isinstance(policy, ACTPolicy):
        policy.train()
        for module in policy.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        with drawn([io["train.latent_eps"]] if "train.latent_eps" in io else [], "torch.randn_like"):
            value, parts = policy.forward(batch)
        io |= {f"loss.{name}": torch.tensor(part) for name, part in parts.items()}
    else:
        with drawn([io["train.noise"]], "torch.randn"), drawn([io["train.timesteps"]], "torch.randint"):
            value, _ = policy.forward(batch)
    io["loss"] = value.detach()
    policy.eval()


def make(out: Path, name: str, seed: int) -> None:
    """Writes one case."""
    case, rng = CASES[name], np.random.default_rng(seed)
    is_act = name.startswith("act")
    shapes: dict[str, tuple[int, ...]] = {STATE: (5,), ENV: (4,), ACTION: (3,)}
    shapes |= {camera: (3, *size) for camera, size in case.get("cameras", {}).items()}
    if not case.get("env", True):
        del shapes[ENV]
    kinds = {STATE: FeatureType.STATE, ENV: FeatureType.ENV}
    inputs = {n: PolicyFeature(kinds.get(n, FeatureType.VISUAL), shape) for n, shape in shapes.items() if n != ACTION}
    config = (ACTConfig if is_act else DiffusionConfig)(
        **case["config"],
        input_features=inputs,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, shapes[ACTION])},
        normalization_mapping={k: NormalizationMode(v) for k, v in case["norms"].items()},
    )
    stats = {n: colours(rng) if len(shape) == 3 else statistics(rng, *shape) for n, shape in shapes.items()}
    processors = make_act_pre_post_processors if is_act else make_diffusion_pre_post_processors
    pre, post = processors(config, stats)
    pre.steps[0].rename_map = case.get("rename", {})
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    policy = (ACTPolicy if is_act else DiffusionPolicy)(config).eval()
    give_weights(policy, seed, folder)
    for part in (config, pre, post):
        part.save_pretrained(folder)
    back = {new: old for old, new in case.get("rename", {}).items()}
    save_file(answers(policy, pre, post, config, stats, shapes, back, rng), folder / "io.safetensors")


def answers(
    policy: Any, pre: Any, post: Any, config: Any, stats: Any, shapes: Any, back: Any, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Inputs, draws and outputs of a case."""
    is_act = isinstance(policy, ACTPolicy)
    H, A = (config.chunk_size if is_act else config.horizon), shapes[ACTION][0]

    def raw(feature: str, *shape: int) -> torch.Tensor:
        part = stats[feature]
        if len(shapes[feature]) == 3:
            return torch.from_numpy((rng.integers(0, 256, (*shape, *shapes[feature])) / 255).astype(np.float32))
        values = part["mean"] + part["std"] * rng.normal(size=(*shape, *shapes[feature]))
        # A constant channel holds exactly its statistic.
        return torch.from_numpy(np.where(part["min"] == part["max"], part["min"], values).astype(np.float32))

    def noise(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    steps = () if is_act else (config.n_obs_steps,)
    observed = [feature for feature in shapes if feature != ACTION]
    io = {f"in.{back.get(f, f)}": raw(f, B, *steps) for f in observed}
    if not is_act:
        n = config.num_inference_steps or config.num_train_timesteps
        io["noise.initial"] = noise(B, H, A)
        io["train.noise"] = noise(B, H, A)
        io["train.timesteps"] = torch.tensor([1, config.num_train_timesteps - 2])
        if config.noise_scheduler_type == "DDPM":
            io["noise.variance"] = noise(n - 1, B, H, A)
    elif config.use_vae:
        io["train.latent_eps"] = noise(B, config.latent_dim)
    io["train.action"] = raw(ACTION, B, H)
    pad = torch.arange(H)[None] >= torch.tensor([[H - 2], [H - 1]])
    io["train.action_is_pad"] = pad
    batch = {name.removeprefix("in."): value for name, value in io.items() if name.startswith("in.")}
    inputs = pre(batch)
    policy.reset()
    fill(policy, inputs)
    io["out.normalized"] = sample(policy, lambda: policy.predict_action_chunk(inputs), io)
    io["out.action"] = post(io["out.normalized"])
    loss(policy, pre({**batch, ACTION: io["train.action"], "action_is_pad": pad}), io)
    ticks = 2 * config.n_action_steps + 3 if len(config.image_features) == 0 else config.n_action_steps + 1
    seen = {f"sequence.{back.get(f, f)}": raw(f, ticks, B) for f in observed}
    policy.reset()
    made = []
    for tick in range(ticks):
        now = pre({name.removeprefix("sequence."): value[tick] for name, value in seen.items()})
        made.append(post(sample(policy, lambda now=now: policy.select_action(now), io)))
    io |= {**seen, "sequence.actions": torch.stack(made)}
    return {name: value.contiguous() for name, value in io.items()}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    for number, (case_name, described) in enumerate(CASES.items()):
        fits = described.get("release", NEWEST) == lerobot.__version__
        if case_name in sys.argv[2:] and not fits:
            sys.exit(f"{case_name}: expected LeRobot {described.get('release', NEWEST)}, found {lerobot.__version__}")
        if fits and case_name in (sys.argv[2:] or CASES):
            make(Path(sys.argv[1]), case_name, 21 + number)
