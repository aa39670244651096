"""Training and cached generation of a GPT beside transformers' GPT-2 with the same weights; prints one JSON line.

    pip install transformers
    python benchmarks/text_speed.py [--width 192 --layers 6 --heads 6 --classes 512] [--threads 1]

Both write the same greedy text, which is checked, and take the same training steps (AdamW, float32). Ours and theirs
take turns; medians, and the median of paired ratios. Units: tokens a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, total
from nextmove.decoders.sampling import Sampling
from nextmove.interop import hf
from turns import ratio, turns


def build(arguments: argparse.Namespace, folder: str) -> tuple[nn.Module, hf.Language]:
    """Theirs, and ours read from what theirs saved."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=arguments.classes,
        n_positions=arguments.length,
        n_embd=arguments.width,
        n_layer=arguments.layers,
        n_head=arguments.heads,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.dim() > 1:
                # Far enough from the start that the text is not one id again and again.
                weight.mul_(3)
    theirs.save_pretrained(folder)
    return theirs, hf.load(folder)


def generation(theirs: Any, ours: hf.Language, prompt: Tensor, new: int) -> tuple[dict[str, Callable[[], Tensor]], int]:
    """What each side does to write `new` ids after the prompts, and how many tokens that is."""
    greedy = Sampling(temperature=0.0)

    def reference() -> Tensor:
        mask = torch.ones_like(prompt)
        return theirs.generate(prompt, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0)

    def own() -> Tensor:
        return ours.model.complete(prompt, new=new, rng=torch.Generator(), sampling=greedy)

    return {"transformers": reference, "nextmove": own}, prompt.shape[0] * new


def training(theirs: Any, ours: hf.Language, ids: Tensor) -> tuple[dict[str, Callable[[], Tensor]], int]:
    """One step of each side on the same ids, and how many tokens it reads."""

    def stepper(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def step() -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            optimiser.step()
            return value.detach()

        return step

    ctx = Context.empty(len(ids))
    sides = {
        "transformers": stepper(theirs.train(), lambda: theirs(ids, labels=ids, use_cache=False).loss),
        "nextmove": stepper(ours.decoder.train(), lambda: total(ours.decoder.loss_at(ctx, ids))),
    }
    return sides, ids.numel()


def race(sides: dict[str, Callable[[], Tensor]], tokens: int, rounds: int) -> tuple[dict[str, float], list[Any]]:
    """Tokens a second of each side and how many times as fast ours is, and the last results."""
    results: dict[str, Any] = {}

    def once(name: str) -> float:
        begin = time.perf_counter()
        results[name] = sides[name]()
        return time.perf_counter() - begin

    found = turns({name: partial(once, name) for name in sides}, rounds)
    speeds = {name: round(tokens / statistics.median(taken), 1) for name, taken in found.items()}
    return speeds | {"ratio": round(ratio(found["transformers"], found["nextmove"]), 2)}, list(results.values())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("width", 192),
        ("layers", 6),
        ("heads", 6),
        ("classes", 512),
        ("length", 256),
        ("new", 200),
        ("rows", 1),
        ("batch", 16),
        ("rounds", 5),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = build(arguments, folder)
    theirs.eval()
    prompt = torch.randint(arguments.classes, (arguments.rows, 16))
    written, texts = race(*generation(theirs, ours, prompt, arguments.new), arguments.rounds)
    ids = torch.randint(arguments.classes, (arguments.batch, arguments.length))
    trained, losses = race(*training(theirs, ours, ids), arguments.rounds)
    result = {
        "sizes": vars(arguments),
        "parameters": sum(p.numel() for p in ours.decoder.parameters()),
        "generation": written,
        "same_text": torch.equal(*texts),
        "different_ids": len(texts[1].unique()),
        "training": trained,
        "loss_difference": abs(float(losses[0] - losses[1])),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
