"""Language models of transformers: logits, the loss, and the likeliest continuations.

Shapes: B batch, L ids, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import gradients
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context
from nextmove.decoders.sampling import Sampling
from nextmove.folders import open_folder
from nextmove.interop import hf

GREEDY = Sampling(temperature=0.0)


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """Logits where attended to, the loss of shifted labels, its gradients, and greedy texts."""
    loaded: hf.Language = open_folder(folder).foreign()
    ids, mask, net = io["in.input_ids"], io["in.attention_mask"].bool(), loaded.decoder.net
    # Positions of a case count from the first id, padding or not.
    options = {} if bool(mask[:, 0].all()) else {"valid": mask, "positions": torch.arange(ids.shape[1])}
    hidden, _ = net.read_embedded(net.embed(ids), Context.empty(len(ids)), **options)
    logits = net.logits(hidden) * mask[..., None]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), io["in.labels"][:, 1:].flatten())
    found = {"out.logits": logits, "loss": loss, **gradients(loaded, folder, loss, io)}
    return Answers(found, texts=_greedy(loaded, io), given=("out.eos_id",), report=loaded.report)


def _greedy(loaded: hf.Language, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
