"""Prismatic's own folders: a config.json of the training, and one file of torch's in `checkpoints`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.openvla.layout import canonical
from nextmove.weights.torch_files import read_torch

BASES: dict[str, dict[str, Any]] = {
    "prism-dinosiglip-224px+7b": {
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "llm_backbone_id": "llama2-7b-pure",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "use_fused_vision_backbone": True,
        "image_resize_strategy": "resize-naive",
        "image_sizes": [224, 224],
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "timm_override_act_layers": [None, None],
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
    }
}
"""What the name of a base model stands for, in the words of transformers' config.json."""
HEAD, PAD, PATCH = 128, 64, 14
"""Width of a head of Llama 2, rows that pad its table, and pixels of a patch's side."""


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a training of Prismatic's."""
    return isinstance(config.get("vla"), Mapping) and "base_vlm" in config["vla"]


def read_checkpoint(folder: Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors of the newest file in `checkpoints`, floats as `dtype` (None: the file's).

    Raises FileNotFoundError where there is none, and ConfigError for a file that holds anything but tensors.
    """

    def step(path: Path) -> int:
        found = re.search(r"step-(\d+)", path.name)
        return int(found[1]) if found else -1

    path = max((folder / "checkpoints").glob("*.pt"), key=step, default=None)
    if path is None:
        raise FileNotFoundError(f"{folder}: expected checkpoints/*.pt, found none")
    whole = read_torch(path)
    return {n: v.to(dtype) if dtype is not None and v.is_floating_point() else v for n, v in whole.items()}


def as_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same in transformers' words, sizes by the tensors; raises ConfigError for a base that is not known."""
    base = str(config["vla"]["base_vlm"])
    if base not in BASES:
        raise ConfigError(f"config.json: vla.base_vlm: expected one of {', '.join(BASES)}, found {base!r}")
    shapes = {canonical(name): tuple(value.shape) for name, value in tensors.items()}
    try:
        ids, width = shapes["language_model.embed_tokens.weight"]
        hidden = shapes["language_model.layers.0.mlp.up_proj.weight"][0]
        places = shapes["featurizer.pos_embed"][1]
    except KeyError as problem:
        raise ConfigError(f"missing tensor {problem} (in transformers' spelling)") from None
    layers = {name.split(".")[2] for name in shapes if name.startswith("language_model.layers.")}
    side = round(places**0.5) * PATCH
    text = {
        "model_type": "llama", "vocab_size": ids, "hidden_size": width, "intermediate_size": hidden,
        "num_hidden_layers": len(layers), "num_attention_heads": max(1, width // HEAD),
        # As the model was trained; its conversion to transformers says 1e-6.
        "rms_norm_eps": 1e-5,
    }  # fmt: skip
    return {
        "model_type": "openvla", **BASES[base], "image_sizes": [side, side], "text_config": text,
        "pad_token_id": ids - PAD, "pad_to_multiple_of": PAD,
    }  # fmt: skip
