"""BLIP: captions, retrieval, and the three losses of its pretraining with queue and momentum.

Shapes: B rows, L ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import gradients
from torch import Tensor
from torch.nn import functional as F

from nextmove.folders import open_folder
from nextmove.models.vision_language.blip_model import BlipModel
from nextmove.nn.block import Source


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """What the case asks of the model that its folder holds."""
    loaded = open_folder(folder).foreign()
    kinds: dict[str, Callable[[BlipModel, Mapping[str, Tensor]], Answers]] = {
        "out.loss_ita": pretraining, "out.itm_logits": retrieval, "out.logits": captions,
    }  # fmt: skip
    found = next(function for name, function in kinds.items() if name in io)(loaded.model, io)
    if "loss" in found.found:
        found.found |= gradients(loaded, folder, found.found["loss"], io)
    found.report = loaded.report
    return found


def captions(model: BlipModel, io: Mapping[str, Tensor]) -> Answers:
    """Logits where attended to, the loss of shifted labels, the likeliest and the best texts."""
    ids, mask, labels = io["in.input_ids"], io["in.attention_mask"], io["in.labels"]
    smoothing = model.decoder.config.smoothing
    ctx = model.seen(io["in.pixel_values"])
    h, _ = model.writer.read(ids, ctx, valid=mask.bool())
    logits = model.writer.logits(h) * mask[..., None]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=smoothing)
    begin = ids.new_full((len(ids), 1), model.marks().write)
    ctx = ctx.map(lambda x: x.detach())
    texts = {
        name: model.written(ctx, begin, new=io[name].shape[1] - 1, beams=beams)
        for name, beams in (("out.greedy", 1), ("out.beam3", 3))
        if name in io
    }
    return Answers({"out.logits": logits, "loss": loss}, texts=texts)


def retrieval(model: BlipModel, io: Mapping[str, Tensor]) -> Answers:
    """Hidden states, cosines and the head's logits; as transformers has it, the first id stays what it is."""
    ids, mask = io["in.input_ids"], io["in.attention_mask"].bool()
    tokens = model.image(io["in.pixel_values"])
    h, _ = model.reader.read(ids, mask)
    both, _ = model.reader.read(ids, mask, source=Source(tokens))
    image = F.normalize(model.image_project(tokens[:, 0]), dim=-1)
    text = F.normalize(model.text_project(h[:, 0]), dim=-1)
    found = {
        "out.vision_hidden": tokens,
        "out.text_hidden": h * mask[..., None],
        "out.multimodal_hidden": both * mask[..., None],
        "out.itm_logits": model.match(both[:, 0]),
        "out.itc_scores": image @ text.mT,
    }
    return Answers(found)


def pretraining(model: BlipModel, io: Mapping[str, Tensor]) -> Answers:
    """The three losses and what a step leaves in queues and momentum copies."""
    contrast = model.train().contrast
    with torch.no_grad():
        contrast.temperature.copy_(io["in.temp"][0])
        contrast.queue.image.copy_(io["in.image_queue"])
        contrast.queue.text.copy_(io["in.text_queue"])
    terms = model.loss_at(
        io["in.image"], io["in.input_ids"], io["in.attention_mask"].bool(), alpha=float(io["in.alpha"])
    )
    found = {
        "out.loss_ita": terms["contrast"][None],
        "out.loss_itm": terms["matching"][None],
        "out.loss_lm": terms["caption"][None],
        "loss": torch.stack([*terms.values()]).sum(),
        "out.image_queue": contrast.queue.image,
        "out.text_queue": contrast.queue.text,
        "out.queue_ptr": contrast.queue.place,
        "out.momentum_vision_proj": contrast.follower.copies["image_project"].weight,
    }
    return Answers(found)
