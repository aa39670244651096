"""Make golden cases of small models that read images, with the gradient of every weight, from transformers (5.5.4).

    python -m benchmarks.make_reader_cases OUT [NAME...]

A case is a folder of OUT in the layout that tests/golden/README.md describes, its weights drawn at random.
transformers is no dependency of ours: run this where it is installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.make_language_cases import kind
from benchmarks.parity.reference import by_transformers, opened, told_loss
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from torch import Tensor

ROWS, LENGTH, SIDE, IMAGE, CLASSES, SEED = 2, 10, 16, 38, 40, 0
"""Texts, ids of a text, pixels of an image's side, the id of its places, ids there are, and the seed of all draws."""
PLACES = 4
"""How many ids an image has."""
BLOCKS: dict[str, Any] = {
    "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
SIGHT: dict[str, Any] = BLOCKS | {"image_size": SIDE, "patch_size": 8}
TEXT: dict[str, Any] = BLOCKS | {"vocab_size": CLASSES, "max_position_embeddings": 32}
LLAMA: dict[str, Any] = TEXT | {"model_type": "llama", "num_key_value_heads": 1, "pad_token_id": 0}
SHUFFLED: dict[str, Any] = {
    "vision_config": SIGHT | {"patch_size": 4}, "text_config": LLAMA, "image_token_id": IMAGE, "scale_factor": 2,
    "pad_token_id": 0,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "blip_caption_gradients": (
        "BlipForConditionalGeneration",
        {
            "vision_config": SIGHT,
            "text_config": TEXT | {"encoder_hidden_size": 12, "bos_token_id": 37, "sep_token_id": 36},
        },
    ),
    "llava_gradients": (
        "LlavaForConditionalGeneration",
        {
            "vision_config": SIGHT | {"model_type": "clip_vision_model", "projection_dim": 12, "num_hidden_layers": 3},
            "text_config": LLAMA,
            "image_token_index": IMAGE,
            "image_seq_length": PLACES,
        },
    ),
    "paligemma_gradients": (
        "PaliGemmaForConditionalGeneration",
        {
            "vision_config": SIGHT | {"model_type": "siglip_vision_model", "vision_use_head": False},
            "text_config": TEXT | {"model_type": "gemma", "num_key_value_heads": 1, "head_dim": 6},
            "image_token_index": IMAGE,
            "projection_dim": 12,
            "hidden_size": 12,
        },
    ),
    "smolvlm_gradients": ("SmolVLMForConditionalGeneration", SHUFFLED),
    "idefics3_gradients": ("Idefics3ForConditionalGeneration", SHUFFLED),
    "idefics_gradients": (
        "IdeficsForVisionText2Text",
        BLOCKS
        | {
            "vocab_size": CLASSES,
            "additional_vocab_size": 2,
            "cross_layer_interval": 2,
            "use_resampler": True,
            "pad_token_id": 0,
            "vision_config": {
                "embed_dim": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": SIDE, "patch_size": 8,
            },
            "perceiver_config": {
                "use_resampler": True, "resampler_depth": 2, "resampler_head_dim": 6, "resampler_n_heads": 2,
                "resampler_n_latents": 3,
            },
        },
    ),
}  # fmt: skip


def inputs(name: str) -> dict[str, Tensor]:
    """`in.*` of a case: two texts, one of them padded, and their images."""
    rng = torch.Generator().manual_seed(SEED)
    ids, mask = torch.randint(3, 36, (ROWS, LENGTH), generator=rng), torch.ones(ROWS, LENGTH, dtype=torch.int64)
    mask[1, LENGTH - 2 :] = 0
    several = name.startswith(("smolvlm", "idefics"))
    images = {"idefics_gradients": (2,)}.get(name, (1,)) if several else ()
    pixels = torch.randn(ROWS, *images, 3, SIDE, SIDE, generator=rng)
    labels, io = ids.masked_fill(mask == 0, -100), {"in.pixel_values": pixels}
    if name.startswith("idefics_"):
        seen = torch.zeros(ROWS, LENGTH, 2, dtype=torch.int64)
        seen[:, 2:, 0], seen[0, 5:, 1] = 1, 1
        io["in.image_attention_mask"] = seen
    elif not name.startswith("blip"):
        ids[:, :PLACES], labels[:, :PLACES] = IMAGE, -100
    if name.startswith("paligemma"):
        io["in.token_type_ids"] = (torch.arange(LENGTH) >= PLACES + 2).long().expand(ROWS, -1).contiguous()
        labels[:, : PLACES + 2] = -100
    return io | {"in.input_ids": ids, "in.attention_mask": mask, "in.labels": labels}


def make(name: str, out: Path) -> None:
    """One case."""
    import transformers

    cls, settings = CASES[name]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        made = getattr(transformers, cls)(getattr(transformers, cls).config_class(**settings))
        made.save_pretrained(place)
        for file in ("config.json", "generation_config.json"):
            if (Path(place) / file).is_file():
                shutil.copy(Path(place) / file, out / file)
        described = {
            key: (list(value.shape), "float32", kind(_norms(name, key), key, tuple(value.shape)))
            for key, value in load_file(Path(place) / "model.safetensors").items()
        }
    (out / "weights.json").write_text(
        json.dumps({"seed": SEED, "files": {"model.safetensors": described}}, indent=1) + "\n"
    )
    with tempfile.TemporaryDirectory() as place:
        folder, io = materialise(out, Path(place)), inputs(name)
        model = opened(folder)
        io["loss"] = told_loss(model, io).detach().reshape(1)
        given = {key[3:]: value for key, value in io.items() if key.startswith("in.") and key != "in.labels"}
        io["out.logits"] = model(**given).logits.detach() * io["in.attention_mask"][..., None]
        io |= by_transformers(folder, io)[0]
    save_file({key: value.contiguous() for key, value in io.items()}, out / "io.safetensors")


def _norms(name: str, key: str) -> str:
    """Whose norms a tensor's are: Gemma's are added to 1."""
    return "gemma" if name.startswith("paligemma") and "language_model" in key else ""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all if none is given")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names or CASES:
        make(name, given.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
