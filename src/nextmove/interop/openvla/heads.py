"""What OpenVLA-OFT keeps beside a folder: a head of actions, maps of state and noise, towers that words steer.

The files are torch's own, read without running what they name (`weights.torch_files`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.weights.torch_files import read_torch

HEAD, PROPRIO, NOISE, TOWERS = "action_head", "proprio_projector", "noisy_action_projector", "vision_backbone"
MAP = {"maps.0": "fc1", "maps.1": "fc2"}
"""Ours -> theirs, of the maps of state and noise."""
INSIDE = {"regression": "model.", "noise": "noise_predictor.mlp_resnet."}
"""What stands before the head's names, by what it predicts."""
LORA_MOST = 16
"""Largest numerator of the factor of low-rank adapters, over their rank."""


def find(folder: Path, name: str) -> Path | None:
    """The file of a part, the one of the most steps; None where there is none."""

    def steps(path: Path) -> int:
        found = re.search(r"--(\d+)_checkpoint", path.name)
        return int(found[1]) if found else -1

    return max(folder.glob(f"{name}--*checkpoint.pt"), key=steps, default=None)


def read_part(path: Path) -> dict[str, Tensor]:
    """The tensors of a part, without the prefix that training in parallel leaves, adapters added to what they adapt.

    Raises ConfigError for a file that holds anything but tensors.
    """
    found = {name.removeprefix("module."): value for name, value in read_torch(path).items()}
    return _merged(found, path)


def _merged(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights with their low-rank adapters: W + B A min(r, 16) / r (Hu et al. 2022)."""
    done = {name.replace(".base_layer.", "."): value for name, value in tensors.items() if ".lora_" not in name}
    for name, down in tensors.items():
        if ".lora_A." not in name:
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        whole = re.sub(r"\.lora_A\.\w+\.weight$", ".weight", name)
        if up is None or whole not in done:
            raise ConfigError(f"{path}: {name}: expected the weight it adapts and its other half, found neither or one")
        rank = len(down)
        more = (up.flatten(1).float() @ down.flatten(1).float()) * (min(rank, LORA_MOST) / rank)
        done[whole] = (done[whole].float() + more.reshape(done[whole].shape)).to(done[whole].dtype)
    return done


def kind_of(tensors: Mapping[str, Tensor], where: str) -> str:
    """What a head predicts: "regression" or "noise"; raises ConfigError for another."""
    for kind, prefix in INSIDE.items():
        if f"{prefix}fc2.weight" in tensors:
            return kind
    raise ConfigError(
        f"{where}: expected a head of actions, of names {list(INSIDE.values())}, found {sorted(tensors)[:4]}"
    )


def blocks(count: int) -> dict[str, str]:
    """Ours -> theirs, of a head with so many residual blocks."""
    inside = [
        ("layer_norm1", "fc1"),
        *((f"mlp_resnet_blocks.{i}.ffn.0", f"mlp_resnet_blocks.{i}.ffn.1") for i in range(count)),
        ("layer_norm2", "fc2"),
    ]
    return {f"{kind}.{i}": pair[j] for i, pair in enumerate(inside) for j, kind in enumerate(("norms", "maps"))}


def count_blocks(tensors: Mapping[str, Tensor]) -> int:
    """Residual blocks of a head."""
    return len({name.split("mlp_resnet_blocks.")[1].split(".")[0] for name in tensors if "mlp_resnet_blocks." in name})


def as_float(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Floating tensors as `dtype`; None: as they are."""
    return {n: v.to(dtype) if dtype is not None and v.is_floating_point() else v for n, v in tensors.items()}
