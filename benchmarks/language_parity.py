"""Language models of transformers and its logits filters against what they gave; called by `parity.py`.

Letters: B batch, L ids, K classes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from nextmove.decoders.sampling import Sampling, min_p, no_repeat, repetition, top_k, top_p
from nextmove.interop import hf

GREEDY = Sampling(temperature=0.0)
REMOVED = -1e9
"""How the cases write a logit of -inf."""


def knows(folder: Path) -> bool:
    """Whether the case is a language model or the filters."""
    config = folder / "config.json"
    return (folder / "params.json").is_file() or (config.is_file() and "model_type" in json.loads(config.read_text()))


def run(name: str, folder: Path) -> dict[str, Any]:
    """The comparison of one case; a model that does not load gives `error`."""
    result: dict[str, Any] = {"case": name, "max_abs_diff": None, "loss_diff": None, "grad_diff": None}
    io = load_file(folder / "io.safetensors")
    if (folder / "params.json").is_file():
        found = filters(io, json.loads((folder / "params.json").read_text()))
        return {**result, **compared(io, found), "keys_used": 0, "keys_ignored": 0, "keys_missing": 0}
    try:
        loaded = hf.load(folder)
    except (ValueError, FileNotFoundError) as problem:
        return {**result, "error": str(problem)}
    print(loaded.report, file=sys.stderr)
    with torch.no_grad():
        logits = loaded.logits(io["in.input_ids"])
    logits = logits * io["in.attention_mask"][..., None]
    result["max_abs_diff"] = float((logits - io["out.logits"]).abs().max())
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), io["in.labels"][:, 1:].flatten())
    want = float(io["loss"])
    result["loss_diff"] = abs(float(loss) - want) / max(abs(want), 1e-12)
    texts = greedy(loaded, io)
    wrong = [key for key, ids in texts.items() if not torch.equal(ids[:, : io[key].shape[1]], io[key])]
    result["greedy_equal"] = not wrong
    if wrong:
        result["greedy_wrong"] = wrong
    used, ignored = len(loaded.report.used), len(loaded.report.ignored)
    result |= {"keys_used": used, "keys_ignored": ignored, "keys_missing": 0}
    skipped = [key for key in io if key.startswith("out.") and key not in (*texts, "out.logits", "out.eos_id")]
    return {**result, "not_compared": skipped} if skipped else result


def greedy(loaded: hf.Language, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The likeliest continuations (B, L) of each kind of prompt there is."""

    def text(key: str, prompt: str, mask: str | None = None, **options: Any) -> None:
        if f"out.{key}" in io:
            ids = io[prompt]
            new = io[f"out.{key}"].shape[1] - ids.shape[1]
            keep = None if mask is None else io[mask]
            options = {"rng": torch.Generator(), "sampling": GREEDY, "stop": (), **options}
            found[f"out.{key}"] = loaded.model.complete(ids, keep, new=new, **options)

    found: dict[str, Tensor] = {}
    text("greedy", "in.prompt_ids")
    text("left_greedy", "in.left_ids", "in.left_mask")
    if "out.eos_id" in io:
        text("greedy_eos", "in.prompt_ids", stop=[int(io["out.eos_id"])])
    return found


def filters(io: Mapping[str, Tensor], params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every filter alone, and the chain of them."""
    scores, before = io["in.scores"], io["in.input_ids"]
    temperature, k, p = params["temperature"], params["top_k"], params["top_p"]
    penalty = params["repetition_penalty"]
    rules = Sampling(temperature, k, p, repetition=penalty)
    chain = rules.filter(rules.penalise(scores, before))
    return {
        "out.temperature": Sampling(temperature).filter(scores),
        "out.top_k": top_k(scores, k),
        "out.top_p": top_p(scores, p),
        "out.min_p": min_p(scores, params["min_p"]),
        "out.repetition": repetition(scores, before, penalty),
        "out.no_repeat_2gram": no_repeat(scores, before, 2),
        "out.chain": chain,
        "out.chain_probs": chain.softmax(-1),
    }


def compared(io: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Any]:
    """The largest difference, and which outputs are not exactly equal."""
    made = {key: value.clamp_min(REMOVED) for key, value in found.items() if key in io}
    wrong = [key for key, value in made.items() if not torch.equal(value, io[key])]
    worst = max(float((value - io[key]).abs().max()) for key, value in made.items())
    skipped = [key for key in io if key.startswith("out.") and key not in made]
    return {"max_abs_diff": worst, "equal": not wrong, **({"not_compared": skipped} if skipped else {})}
