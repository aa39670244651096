"""The authors' side of `openvla_acts.py`, run in its own environment: their class loads a folder of ours and acts.

The environment: `pip install transformers==4.40.1 tokenizers==0.19.1 timm==0.9.10 torch "numpy<2.3" safetensors`. Of
OpenVLA's repository the Hugging Face class alone is imported, untouched; timm is told the sizes of small towers where
the class asks for published ones by name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer


def told(sizes: dict[str, Any]) -> Any:
    """timm's `create_model`, at the sizes of a case."""

    def create(name: str, **_: Any) -> VisionTransformer:
        kind = "dinov2" if "dinov2" in name else "siglip"
        own = sizes[kind]
        shape = {n: own[n] for n in ("embed_dim", "depth", "num_heads", "mlp_ratio") if n in own}
        if kind == "siglip":
            return VisionTransformer(
                sizes["image_size"], 14, num_classes=0, class_token=False, global_pool="map", **shape
            )
        registers = {"init_values": 1e-5, "reg_tokens": own.get("reg_tokens", 4), "no_embed_class": True}
        return VisionTransformer(sizes["image_size"], 14, num_classes=0, **registers, **shape)

    return create


def model(source: Path, folder: Path) -> Any:
    """The authors' model of a folder's config.json, with its weights."""
    package: Any = ModuleType("prismatic")
    package.__path__ = [str(source / "prismatic")]  # Its own __init__ imports what training needs.
    sys.modules["prismatic"] = package
    from prismatic.extern.hf import configuration_prismatic, modeling_prismatic

    modeling_prismatic.timm.create_model = told(json.loads((folder / "case.json").read_text())["sizes"])
    stated = json.loads((folder / "config.json").read_text())
    derived = ("architectures", "timm_model_ids", "timm_override_act_layers", "image_sizes", "hf_llm_id")
    config = configuration_prismatic.OpenVLAConfig(**{n: v for n, v in stated.items() if n not in derived})
    config._attn_implementation = "eager"
    made = modeling_prismatic.OpenVLAForActionPrediction(config).eval()
    made.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return made


@torch.inference_mode()
def check(source: Path, place: Path) -> dict[str, Any]:
    """Differences of logits, ids and actions."""
    case, file = load_file(place / "case.safetensors"), load_file(place / "theirs" / "model.safetensors")
    made = model(source, place / "theirs")
    mask = case["in.attention_mask"].long()
    logits = made(
        input_ids=case["in.input_ids"], attention_mask=mask, pixel_values=case["in.pixel_values"], return_dict=True
    ).logits
    tail = case["out.logits_tail"]
    real = torch.ones(logits.shape[:2], dtype=torch.bool)
    real[:, 1 - mask.shape[1] :] = mask[:, 1:].bool()
    last = real[:, -tail.shape[1] :]
    whole = (logits.logsumexp(-1) - case["out.logits_logsumexp"])[real].abs().max()
    ids, count = case["in.prompt_ids"], case["out.generated"].shape[1]
    shown = {"pixel_values": case["in.pixel_values"][:1], "do_sample": False}
    written = made.generate(ids, max_new_tokens=count, **shown)
    made.generate = lambda *_, **__: written  # These ids are read as an action under each key.
    keys = [name.removeprefix("out.action.") for name in case if name.startswith("out.action.")]
    apart = [
        torch.from_numpy(made.predict_action(ids, unnorm_key=key)).float() - case[f"out.action.{key}"] for key in keys
    ]
    own = made.state_dict()
    differ = sum(not torch.equal(own[name], file[name]) for name in own.keys() & file.keys())
    return {
        "transformers": transformers.__version__,
        "timm": timm.__version__,
        "tensors": len(file),
        "wrong": differ + len(own.keys() ^ file.keys()),
        "logits": max(float(whole), float((logits[:, -tail.shape[1] :] - tail)[last].abs().max())),
        "spread": float(logits[real].std()),
        "ids": count,
        "ids_differ": int((written[:, -count:] != case["out.generated"]).sum()),
        "keys": len(keys),
        "actions": max(float(one.abs().max()) for one in apart),
    }


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1]), Path(sys.argv[2]))))
