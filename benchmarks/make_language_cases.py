"""Make a golden case of a language model from transformers (5.5.4 made those in tests/golden), random weights included.

    python -m benchmarks.make_language_cases CONFIG OUT [--gradients]

CONFIG is a JSON file with `model_type` and the sizes. The case is in the layout that tests/golden/README.md describes.
transformers is no dependency of ours: run this where it is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.golden.materialise import tensors
from torch import Tensor

ROWS, LENGTH, PROMPT, NEW, SEED = 3, 14, 5, 12, 0
"""Texts, ids of a text, ids of a prompt, ids written behind it, and the seed of weights and ids."""


def kind(model: str, name: str, shape: tuple[int, ...]) -> str:
    """The kind of a tensor in weights.json."""
    if len(shape) > 1:
        return "embedding" if "embed" in name or "wte" in name or "wpe" in name else "weight"
    if name.endswith("bias"):
        return "bias"
    return "gemma" if model.startswith("gemma") else "norm"


def answers(model: Any, classes: int, gradients: bool) -> dict[str, Tensor]:
    """Inputs and what the model makes of them; the gradients of its loss by the names of its weights."""
    rng = torch.Generator().manual_seed(SEED)
    ids = torch.randint(3, classes, (ROWS, LENGTH), generator=rng)
    mask = torch.ones_like(ids)
    mask[1, LENGTH - 4 :] = 0
    labels = torch.where(mask.bool(), ids, -100)
    with torch.enable_grad():
        out = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
        out.loss.backward()
    grads = {f"grad.{name}": weight.grad for name, weight in model.named_parameters()} if gradients else {}
    prompt = ids[:2, :PROMPT].clone()
    left, left_mask = prompt.clone(), torch.ones_like(prompt)
    left[1, :2], left_mask[1, :2] = 0, 0
    plain = {"do_sample": False, "pad_token_id": 0, "use_cache": True}
    model.generation_config.eos_token_id = None
    greedy = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, **plain)
    stop = int(greedy[0, PROMPT + 2])
    ended = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, eos_token_id=stop, **plain
    )
    return {
        "in.input_ids": ids, "in.attention_mask": mask, "in.labels": labels, "in.prompt_ids": prompt,
        "in.left_ids": left, "in.left_mask": left_mask, "loss": out.loss.detach().reshape(1),
        "out.logits": out.logits.detach() * mask[..., None], "out.greedy": greedy, "out.greedy_eos": ended,
        "out.eos_id": torch.tensor([stop]),
        "out.left_greedy": model.generate(left, attention_mask=left_mask, max_new_tokens=8, **plain), **grads,
    }  # fmt: skip


def main() -> int:
    """The command."""
    from transformers import AutoConfig, AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--gradients", action="store_true", help="of the loss, of every weight")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = json.loads(given.config.read_text())
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    named = dict(model.named_parameters())
    described = {
        name: (list(p.shape), "float32", kind(config.model_type, name, tuple(p.shape))) for name, p in named.items()
    }
    made = tensors(SEED, described)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(torch.from_numpy(made[name]))
        io = answers(model, config.vocab_size, given.gradients)
    model.config.save_pretrained(given.out)
    model.generation_config.save_pretrained(given.out)
    save_file({name: value.contiguous() for name, value in io.items()}, given.out / "io.safetensors")
    weights = {"seed": SEED, "files": {"model.safetensors": described}}
    (given.out / "weights.json").write_text(json.dumps(weights, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
