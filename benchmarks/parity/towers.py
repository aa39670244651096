"""Towers of transformers: hidden states, vectors, logits and the losses that the cases define.

Shapes: B batch, L ids, S tokens, K classes.
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

from nextmove.folders import open_folder
from nextmove.interop import hf


def images(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """ViT's hidden states in front of the norm, logits, loss and gradients; DINOv2's tokens at two sizes."""
    read: hf.Read = open_folder(folder).foreign()
    found: dict[str, Tensor] = {}
    if "out.logits" in io:
        tower = read.model.tower
        hidden, _ = tower.stream(tower.embedded(io["in.pixel_values"]), remember=False, depth=tower.config.layers)
        logits = read.model(io["in.pixel_values"])
        loss = F.cross_entropy(logits, io["in.labels"])
        found |= {"out.hidden": hidden, "out.logits": logits, "loss": loss, **gradients(read, folder, loss, io)}
    else:
        tokens = read.model(io["in.pixel_values"])
        found |= {"out.hidden": tokens, "out.pooled": read.model.pooled(tokens)}
        if "in.pixel_values_big" in io:
            found["out.hidden_big"] = read.model(io["in.pixel_values_big"])
    return Answers(found, report=read.report)


def texts(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """BERT's and T5's last hidden states where attended to, and BERT's logits, loss of hidden words and gradients."""
    read: hf.Read = open_folder(folder).foreign()
    ids, mask = io["in.input_ids"], io["in.attention_mask"]
    hidden, _ = read.model.read(ids, mask, types=io.get("in.token_type_ids"))
    found = {"out.hidden": hidden * mask[..., None]}
    if "out.logits" in io:
        logits = read.model.logits(hidden)
        loss = F.cross_entropy(logits.flatten(0, 1), io["in.labels"].flatten())
        found |= {"out.logits": logits * mask[..., None], "loss": loss, **gradients(read, folder, loss, io)}
    return Answers(found, report=read.report)


def pairs(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """CLIP's and SigLIP's vectors, logits, losses and gradients."""
    read: hf.Read = open_folder(folder).foreign()
    model, ids, mask = read.model, io["in.input_ids"], io.get("in.attention_mask")
    image, text = model.images(io["in.pixel_values"]), model.texts(ids, mask)
    logits = model.logits(image, text)
    found = {
        "out.image_embeds": image,
        "out.text_embeds": text,
        "out.logits_per_image": logits,
        "out.vision_hidden": model.image(io["in.pixel_values"]),
        "loss": _loss(logits, sigmoid=model.bias is not None),
    }
    found |= gradients(read, folder, found["loss"], io)
    if mask is not None:
        found["out.text_hidden"] = model.text(ids, mask).tokens * mask[..., None]
    return Answers(found, report=read.report)


def _loss(logits: Tensor, *, sigmoid: bool) -> Any:
    own = torch.arange(len(logits))
    if sigmoid:
        return -F.logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum() / len(logits)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)) / 2
