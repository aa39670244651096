"""openpi's side of `vla_peers.py`, run in its own environment: its PyTorch model loads a folder of ours and acts.

The environment: `pip install transformers==4.53.2 torch numpy safetensors`, and openpi's own changes to transformers,
`cp -r OPENPI/src/openpi/models_pytorch/transformers_replace/* SITE-PACKAGES/transformers/`. No JAX: of what
openpi imports beside its model the names of sizes are given here, and the rest, which its PyTorch code does not call,
is empty.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from safetensors.torch import load_file, load_model

import vla_sizes

EPS = 1e-6
"""What openpi adds to a spread before it divides by it."""


def model(source: Path, folder: Path, ids: int) -> Any:
    """openpi's model for a folder's config.json, untouched but for the sizes, with the folder's weights."""
    for name in ("jax", "jax.numpy", "openpi.shared.array_typing"):
        sys.modules[name] = MagicMock()
    names: Any = ModuleType("openpi.models.gemma")
    names.get_config = lambda variant: SimpleNamespace(**vla_sizes.GEMMA[variant])
    sys.path.insert(0, str(source / "src"))
    import openpi.models

    openpi.models.gemma = sys.modules["openpi.models.gemma"] = names
    from openpi.models_pytorch import gemma_pytorch, pi0_pytorch

    vla_sizes.tell(gemma_pytorch, "PaliGemmaForConditionalGeneration", "GemmaForCausalLM", ids)
    stated = json.loads((folder / "config.json").read_text())
    five = any("time_mlp_in" in name and "action" not in name for name in load_file(folder / "model.safetensors"))
    config = SimpleNamespace(**stated, dtype=stated["precision"], pi05=five, pytorch_compile_mode=None)
    made = pi0_pytorch.PI0Pytorch(config).eval()
    load_model(made, folder / "model.safetensors", strict=True)
    return made


def scaled(stats: dict[str, Any], quantiles: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift and spread of one of openpi's statistics."""
    low, other = (torch.tensor(stats[key]) for key in (("q01", "q99") if quantiles else ("mean", "std")))
    return (low + (other - low + EPS) / 2, (other - low + EPS) / 2) if quantiles else (low, other + EPS)


def check(source: Path, folder: Path) -> dict[str, Any]:
    """The largest difference of its plans for given ids, pictures, states and noise."""
    case, place = load_file(folder / "case.safetensors"), folder / "openpi"
    file = load_file(place / "model.safetensors")
    made = model(source, place, len(file["paligemma_with_expert.paligemma.lm_head.weight"]))
    norms = json.loads((place / "assets" / "robot" / "norm_stats.json").read_text())["norm_stats"]
    shift, spread = scaled(norms["state"], made.pi05)
    state = torch.zeros(len(case["out"]), made.config.action_dim)
    state[:, : len(shift)] = (case["in.observation.state"] - shift) / spread
    picture = case["in.observation.image"].float() / 127.5 - 1
    none, blank = torch.zeros(len(state), dtype=torch.bool), -torch.ones_like(picture)
    seen = SimpleNamespace(
        images={"base_0_rgb": picture, "left_wrist_0_rgb": blank, "right_wrist_0_rgb": blank},
        image_masks={"base_0_rgb": ~none, "left_wrist_0_rgb": none, "right_wrist_0_rgb": none},
        state=state, tokenized_prompt=case["words"], tokenized_prompt_mask=case["told"], token_ar_mask=None,
        token_loss_mask=None,
    )  # fmt: skip
    plan = made.sample_actions("cpu", seen, noise=case["noise"], num_steps=10)
    shift, spread = scaled(norms["actions"], made.pi05)
    plan = plan[..., : len(shift)] * spread + shift
    own, tied = made.state_dict(), "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    differ = sum(not torch.equal(own[name], file[name]) for name in own.keys() & file.keys())
    unit = case["unit"].clamp_min(1)
    return {
        "tensors": len(file),
        "wrong": differ + len((own.keys() ^ file.keys()) - {tied}),
        "plan_diff": float(((plan - case["out"]).abs() / unit).max()),
    }


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1]), Path(sys.argv[2]))))
