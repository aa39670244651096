"""SmolVLA: pictures, prefix, velocity, losses and plans.

Shapes: B batch, H horizon, A action width, L ids, P tokens of the prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from torch import Tensor

from nextmove.contracts import Context
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.encoders.reading import MASK, ReadingEncoder
from nextmove.interop import Loaded, smolvla

IN, IMAGES, WORDS = "in.", "in.observation.images.", "in.observation.language."


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """What a case records; velocities from data to noise, as there."""
    loaded = smolvla.load(folder, marks=_marks(folder))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        ctx = _context(loaded, io, found)
        found |= _trained(loaded, ctx, io)
        whole = loaded.predict(ctx, noise=io["noise.sample"])
        found |= {"out.actions_full": whole, "out.actions": loaded.postprocess(whole)}
    return Answers(found, report=loaded.report)


def _marks(folder: Path) -> tuple[int, int] | None:
    case = folder / "case.json"
    ids = json.loads(case.read_text()).get("special_ids") if case.is_file() else None
    return None if ids is None else (ids["fake_image"], ids["global_image"])


def _context(loaded: Loaded, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> Context:
    encoder: Any = loaded.policy.encoder
    assert isinstance(encoder, ReadingEncoder)
    pictures = []
    for name in encoder.cameras:
        if IN + name in io:
            image = io[IN + name].movedim(1, -1)
            pictures.append((encoder.config.framed(image, encoder.config.towers[0].image), io.get(IN + name + MASK)))
    state = encoder.shown({"observation.state": io["in.observation.state"][:, None]})
    ids, mask = io[WORDS + "tokens"], io[WORDS + "attention_mask"]
    x, valid, _ = encoder.embedded(pictures, ids, mask, state)
    wanted, places = io["out.prefix_embs"].clone(), io["out.prefix_pad_masks"]
    # What is padding there is not read anywhere, and need not be here.
    wanted[places] = x[valid]
    found["out.prefix_embs"] = wanted
    real = torch.stack([picture for picture, _ in pictures], 1) * 2 - 1
    blank = real.new_full((*real.shape[:1], encoder.config.blanks, *real.shape[2:]), -1)
    found["out.images"] = torch.cat([real, blank], 1)
    return encoder.prefix(pictures, ids, mask, state)


def _trained(loaded: Loaded, ctx: Context, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Velocity and losses at the case's times, which run from data to noise."""
    policy, decoder = loaded.policy, loaded.policy.decoder
    assert isinstance(decoder, DiffusionDecoder)
    batch, pad = {"action": io["in.action"]}, io["in.action_is_pad"]
    x, noise, t = policy.codec.encode(io["in.action"], batch), io["noise.train"], 1 - io["noise.time"]
    mixed = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    found = {"out.velocity": -decoder.net(mixed, io["noise.time"][:, None], ctx)}

    def loss(rows: slice, is_pad: Tensor) -> Tensor:
        weight = policy.codec.weight(is_pad[rows])
        part = ctx.map(lambda value: value[rows])
        return decoder.loss_at(part, x[rows], weight=weight, t=t[rows], noise=noise[rows])["velocity"]

    whole = slice(None)
    found |= {"loss": loss(whole, pad), "out.loss_no_pad_mask": loss(whole, torch.zeros_like(pad))[None]}
    found["out.loss_per_sample"] = torch.stack([loss(slice(i, i + 1), pad) for i in range(len(x))])
    return found
