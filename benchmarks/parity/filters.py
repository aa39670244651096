"""The logits filters of transformers: every one alone, and the chain of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.parity.answers import Answers
from torch import Tensor

from nextmove.decoders.sampling import Sampling, min_p, no_repeat, repetition, top_k, top_p

PARAMS = "params.json"


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """Filtered logits (B, K), equal to the last bit."""
    params = json.loads((folder / PARAMS).read_text())
    scores, before = io["in.scores"], io["in.input_ids"]
    temperature, k, p = params["temperature"], params["top_k"], params["top_p"]
    penalty = params["repetition_penalty"]
    rules = Sampling(temperature, k, p, repetition=penalty)
    chain = rules.filter(rules.penalise(scores, before))
    found = {
        "out.temperature": Sampling(temperature).filter(scores),
        "out.top_k": top_k(scores, k),
        "out.top_p": top_p(scores, p),
        "out.min_p": min_p(scores, params["min_p"]),
        "out.repetition": repetition(scores, before, penalty),
        "out.no_repeat_2gram": no_repeat(scores, before, 2),
        "out.chain": chain,
        "out.chain_probs": chain.softmax(-1),
    }
    return Answers(found, exact=True)
