"""Real language models in GGUF files, against transformers on the same unpacked weights; prints a table as JSON.

    python -m benchmarks.gguf_parity smollm2 gemma3-270m > docs/data/gguf.json

Each model continues 20 prompts greedily by both; logits are compared over prompt and continuation, all positions.
Needs transformers (5.5.4) beside our own requirements.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import seeded
from nextmove.decoders.sampling import Sampling
from nextmove.evaluation.machine import machine, versions
from nextmove.folders import open_folder
from nextmove.interop import gguf

NEW = 32
QUESTIONS = (
    "What is the capital of France?", "Name three colours.", "What is 12 plus 30?", "Why is the sky blue?",
    "Write a short poem about the sea.", "How do I boil an egg?", "Translate 'good morning' into French.",
    "List the planets of the solar system.", "What does a robot arm do?", "Who wrote Hamlet?",
    "Explain gravity to a child.", "What is the opposite of hot?", "Give me a name for a cat.",
    "How many days has a week?", "Write a Python function that adds two numbers.", "What is a neural network?",
    "Where do penguins live?", "What should I pack for a hike?", "Summarise: The cat sat on the mat and slept.",
    "Pick up the red block and put it into the drawer. What comes first?",
)  # fmt: skip
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def reference(file: gguf.File) -> Any:
    """The model of transformers with the file's numbers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(file.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.load_state_dict({name: file.tensor(name) for name in file.names}, strict=False)
    tied: set[int] = {id(p) for p in model.parameters()}
    filled = {name for name, _ in model.named_parameters()}
    if not filled <= set(file.names) or len(tied) != len(file.names):
        raise SystemExit(f"{file.gguf.path}: transformers has other tensors than the file")
    return model


@torch.no_grad()
def compare(name: str) -> dict[str, Any]:
    """One model's line."""
    saved = open_folder(name)
    file, began = gguf.open_file(saved.folder), time.perf_counter()
    language = saved.foreign()
    loading = time.perf_counter() - began
    theirs, ours, chat = reference(file), language.model, "<|im_start|>" in file.gguf.metadata["tokenizer.ggml.tokens"]
    worst, equal, written = 0.0, 0, 0
    for question in QUESTIONS:
        ids = ours.codec.prompt(CHAT.format(question) if chat else question)[None]
        mask = torch.ones_like(ids)
        stop = list(ours.stop)
        want: Tensor = theirs.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW, eos_token_id=stop, pad_token_id=0
        )
        found = ours.complete(ids, new=NEW, rng=seeded(0), sampling=Sampling(0.0), pad=0)[:, : want.shape[1]]
        equal += int(torch.equal(found, want))
        written += want.shape[1] - ids.shape[1]
        worst = max(worst, float((language.logits(want) - theirs(want).logits).abs().max()))
        print(f"{name}: {worst:.1e}, {equal} equal", file=sys.stderr, flush=True)
    numbers = nn.Module.parameters(ours)
    return {
        "name": name, "file": file.gguf.path.name, "kinds": file.gguf.kinds, "difference": worst, "equal": equal,
        "prompts": len(QUESTIONS), "tokens": written, "seconds": loading, "packed": file.gguf.nbytes,
        "float32": sum(p.nbytes for p in numbers),
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The lines as docs/data holds them."""
    rows = [
        [
            f"`{line['name']}`",
            ", ".join(f"{count} {kind}" for kind, count in line["kinds"].items()),
            f"{line['difference']:.1e}",
            f"{line['equal']} of {line['prompts']}, {line['tokens']} tokens",
            f"{line['packed'] / 1e6:.0f}",
            f"{line['float32'] / 2e6:.0f} / {line['float32'] / 1e6:.0f}",
        ]
        for line in lines
    ]
    return {
        "title": "Real language models from GGUF files",
        "command": "python -m benchmarks.gguf_parity " + " ".join(line["name"] for line in lines),
        "note": f"Against transformers 5.5.4 on the same unpacked weights, in float32: the largest difference of a "
        f"logit over all positions of prompt and text, and greedy texts of up to {NEW} tokens behind 20 prompts.",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "columns": ["model", "tensors", "largest difference", "equal texts", "MB packed", "MB in bf16 / float32"],
        "rows": rows,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of packaged models, or .gguf files")
    torch.set_num_threads(1)
    print(json.dumps(table([compare(name) for name in parser.parse_args().models]), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
