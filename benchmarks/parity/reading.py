"""Models that read images: logits, loss, the likeliest continuations, and what a resampler makes of an image.

Shapes: B batch, T images of a row, L ids, K classes.
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
from nextmove.decoders.autoregressive import Reading
from nextmove.decoders.prompts import continued
from nextmove.decoders.sampling import Sampling
from nextmove.folders import open_folder
from nextmove.interop.hf import Read
from nextmove.nn.prefix import PrefixNet

GREEDY = Sampling(temperature=0.0)


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """Logits where attended to, the loss of shifted labels, its gradients, and greedy texts."""
    loaded: Read = open_folder(folder).foreign()
    net, ids, mask = loaded.model.net, io["in.input_ids"], io["in.attention_mask"].bool()
    found: dict[str, Tensor] = {}
    ctx = context(loaded, io, found)
    options = given(io)
    if isinstance(net, PrefixNet) and not bool(mask.all()):
        # Positions of a case count from the first id, padding or not.
        options |= {"valid": mask, "positions": torch.arange(ids.shape[1]) + net.config.first}
    logits = net.logits(net.read(ids, ctx, None, **options)[0])
    if "out.prefix_logits" in io:
        found["out.prefix_logits"] = net(io["in.prompt_ids"], ctx)[0]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), io["in.labels"][:, 1:].flatten())
    found |= gradients(loaded, folder, loss, io)
    ctx = ctx.map(lambda x: x.detach())
    found |= {"out.logits": logits * mask[..., None], "loss": loss}
    texts = {"out.greedy": greedy(loaded, ctx, io)} if "out.greedy" in io else {}
    return Answers(found, texts=texts, report=loaded.report)


def given(io: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a case says of who sees what."""
    options: dict[str, Any] = {}
    if "in.token_type_ids" in io:
        options["prefix"] = io["in.token_type_ids"] == 0
    if "in.image_attention_mask" in io:
        options["seen"] = io["in.image_attention_mask"].bool()
    return options


def context(loaded: Read, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> Context:
    """The images of a case."""
    model = loaded.model
    if "in.vision_features" in io:
        found["out.latents"] = model.bridge(io["in.vision_features"])
        return model.shown(io["in.vision_features"])
    pixels, options, valid = io["in.pixel_values"], {}, None
    if pixels.dim() == 4:
        pixels, valid = rows(pixels, (io["in.input_ids"] == model.net.image).sum(1) // model.each)
    elif "in.image_attention_mask" not in io:
        valid = pixels.flatten(2).any(-1)  # images of nothing but 0 fill up rows of fewer
    if "in.pixel_attention_mask" in io:
        options["pixels_valid"] = io["in.pixel_attention_mask"].bool()
    ctx = model.seen(pixels, valid, **options)
    if "out.resampled" in io:
        found["out.resampled"] = ctx.tokens.view_as(io["out.resampled"])
    return ctx


def rows(pixels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, 3, h, w) of all rows in order as (B, T, 3, h, w), with counts (B,) of each row, and which are there.

    Raises ValueError for another number of images than the rows have.
    """
    places = int(counts.sum())
    if len(pixels) != places:
        raise ValueError(f"in.pixel_values: expected {places} images, as ids have places, found {len(pixels)}")
    valid = torch.arange(int(counts.max())) < counts[:, None]
    made = pixels.new_zeros(*valid.shape, *pixels.shape[1:])
    made[valid] = pixels
    return made, valid


def greedy(loaded: Read, ctx: Context, io: Mapping[str, Tensor]) -> Tensor:
    """The likeliest continuation (B, L) of the case's prompts, or of row 0's ids."""
    wanted, model = io["out.greedy"], loaded.model
    rows, reading = len(wanted), None
    ctx = ctx.map(lambda x: x[:rows])
    if "in.prompt_ids" in io:
        prompt = io["in.prompt_ids"]
    else:
        prompt = io["in.input_ids"][:rows, : int(io["in.attention_mask"][:rows].sum(1).min())]
    new = wanted.shape[1] - prompt.shape[1]
    if "in.image_attention_mask" in io:
        seen = io["in.image_attention_mask"][:rows, : prompt.shape[1]].bool()
        with torch.inference_mode():
            _, state = model.net.read(prompt[:, :-1], ctx, None, seen=seen[:, :-1])
        reading, behind = Reading(model.decoder, ctx, state=state._replace(seen=seen[:, -1])), prompt[:, -1:]
    else:
        behind = prompt
    made = continued(
        model.decoder, ctx, behind, new=new, rng=torch.Generator(), sampling=GREEDY, stop=(), reading=reading
    )
    return torch.cat([prompt, torch.stack([*made], 1)], 1)
