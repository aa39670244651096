"""SmolVLA: pictures, prefix, suffix, who sees whom, velocity, losses and plans.

Shapes: B batch, H horizon, A action width, L ids, P tokens of the prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import named
from benchmarks.parity.sight import joint, masks, padding, placed, watched
from torch import Tensor

from nextmove.contracts import Context
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.encoders.reading import MASK, ReadingEncoder
from nextmove.interop import Loaded, smolvla
from nextmove.nn.mask import extend_valid

IN, IMAGES, WORDS = "in.", "in.observation.images.", "in.observation.language."


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """What a case records; velocities from data to noise, as there."""
    loaded = smolvla.load(folder, marks=_marks(folder))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        with watched(loaded.policy.encoder.language.stream, loaded.policy.decoder.net.stream) as calls:  # type: ignore[attr-defined]
            ctx, valid = _context(loaded, io, found)
            found |= _trained(loaded, ctx, io)
        suffix = found["out.suffix_embs"].shape[1]
        ours, theirs = (extend_valid(mask, after=suffix) for mask in (valid, found["out.prefix_pad_masks"].bool()))
        keys, positions = placed(joint(calls[0], calls[1]), ours, theirs, io["out.position_ids"])
        found |= {"out.attention_mask": keys, "out.position_ids": positions}
        whole = loaded.predict(ctx, noise=io["noise.sample"])
        found |= {"out.actions_full": whole, "out.actions": loaded.postprocess(whole)}

    def loss() -> Tensor:
        return _trained(loaded, _context(loaded, io, {})[0], io)["loss"]

    found |= named(loaded.policy, folder, loss, io, lambda copy: smolvla.load(copy, marks=_marks(copy)).policy)
    return Answers(found, report=loaded.report)


def _marks(folder: Path) -> tuple[int, int] | None:
    case = folder / "case.json"
    ids = json.loads(case.read_text()).get("special_ids") if case.is_file() else None
    return None if ids is None else (ids["fake_image"], ids["global_image"])


def _context(loaded: Loaded, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> tuple[Context, Tensor]:
    """The context, and which of its tokens are no padding."""
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
    shown = masks(pictures, len(pictures) + encoder.config.blanks, len(x))
    each = encoder.looked(pictures[:1])[0][0].shape[1]
    before, after = (len(marks) for marks in encoder.config.around)
    behind = [mask.bool(), torch.ones(len(x), 1, dtype=torch.bool)]
    found["out.image_masks"] = shown.float()
    found["out.prefix_pad_masks"] = padding(shown, each, (before, after), behind, loaded.config.prefix_length).float()
    return encoder.prefix(pictures, ids, mask, state), valid


def _trained(loaded: Loaded, ctx: Context, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Velocity and losses at the case's times, which run from data to noise."""
    policy, decoder = loaded.policy, loaded.policy.decoder
    assert isinstance(decoder, DiffusionDecoder)
    batch, pad = {"action": io["in.action"]}, io["in.action_is_pad"]
    x, noise, t = policy.codec.encode(io["in.action"], batch), io["noise.train"], 1 - io["noise.time"]
    mixed = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    net: Any = decoder.net
    told = io["noise.time"][:, None]
    found = {"out.velocity": -net(mixed, told, ctx), "out.suffix_embs": net._embed(mixed, told)[0]}
    found["out.time_emb"] = net._sinusoids(told, x.new_empty(0, 0, net.stream.width))

    def loss(rows: slice, is_pad: Tensor) -> Tensor:
        weight = policy.codec.weight(is_pad[rows])
        part = ctx.map(lambda value: value[rows])
        return decoder.loss_at(part, x[rows], weight=weight, t=t[rows], noise=noise[rows])["velocity"]

    whole = slice(None)
    found |= {"loss": loss(whole, pad), "out.loss_no_pad_mask": loss(whole, torch.zeros_like(pad))[None]}
    found["out.loss_per_sample"] = torch.stack([loss(slice(i, i + 1), pad) for i in range(len(x))])
    return found
