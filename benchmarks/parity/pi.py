"""pi0 and pi0.5: pictures, prefix, suffix, who sees whom, velocity, losses and plans.

Shapes: B batch, H horizon, A action width, L ids, P tokens of the prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import named
from benchmarks.parity.sight import joint, masks, padding, placed, watched
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.encoders.reading import ReadingEncoder
from nextmove.interop import Loaded, pi
from nextmove.interop.pi.config import Sizes, Stack
from nextmove.nn.mask import extend_valid

IN, WORDS = "in.", "in.observation.language."


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """What a case records; velocities from data to noise, as there."""
    case = json.loads((folder / "case.json").read_text())
    absent = [camera["key"] for camera in case["cameras"] if not camera["present"]]

    def read(where: Path) -> Loaded:
        return pi.load(where, sizes=sizes(case["sizes"]), optional=absent, scaled=True)

    loaded = read(folder)
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

    found |= named(loaded.policy, folder, loss, io, lambda where: read(where).policy)
    return Answers(found, report=loaded.report)


def sizes(sizes: Mapping[str, Any]) -> Sizes:
    """The sizes of a case, where the reference has names of published ones."""
    seen, usual = sizes["vision"], Sizes()
    tower = replace(
        usual.tower,
        image=seen["image_size"],
        patch=seen["patch_size"],
        width=seen["hidden_size"],
        layers=seen["num_hidden_layers"],
        heads=seen["num_attention_heads"],
        feedforward=replace(usual.tower.feedforward, hidden=seen["intermediate_size"]),
    )
    stacks = [
        Stack(own["width"], own["depth"], own["mlp_dim"], own["num_heads"], own["num_kv_heads"], own["head_dim"])
        for own in (sizes["vlm"], sizes["expert"])
    ]
    return Sizes(tower, *stacks, sizes["vocab_size"])


def _context(loaded: Loaded, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> tuple[Context, Tensor]:
    """The context, and which of its tokens are no padding."""
    encoder: Any = loaded.policy.encoder
    assert isinstance(encoder, ReadingEncoder)
    pictures, side = [], encoder.config.towers[0].image
    for name in encoder.cameras:
        if IN + name in io:
            pictures.append((encoder.config.framed(io[IN + name].movedim(1, -1), side), None))
    state = io["in.observation.state"]
    state = F.pad(state, (0, encoder.state_width - state.shape[-1])) if encoder.config.state == "vector" else None
    ids, mask = io[WORDS + "tokens"], io[WORDS + "attention_mask"]
    x, valid, _ = encoder.embedded(pictures, ids, mask, state)
    wanted, places = io["out.prefix_embs"].clone(), io["out.prefix_pad_masks"]
    # What is padding there is not read anywhere, and need not be here.
    wanted[places] = x[valid]
    found["out.prefix_embs"] = wanted
    real = torch.stack([picture for picture, _ in pictures], 1) * 2 - 1
    blank = real.new_full((len(real), len(encoder.cameras) - len(pictures), *real.shape[2:]), -1)
    found["out.images"] = torch.cat([real, blank], 1)
    shown = masks(pictures, len(encoder.cameras), len(x))
    each = (x.shape[1] - ids.shape[1]) // len(pictures)
    found["out.image_masks"] = shown.float()
    found["out.prefix_pad_masks"] = padding(shown, each, (0, 0), [mask.bool()]).float()
    return encoder.prefix(pictures, ids, mask, state), valid


def _trained(loaded: Loaded, ctx: Context, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Velocity and losses at the case's times, which run from data to noise."""
    policy, decoder = loaded.policy, loaded.policy.decoder
    assert isinstance(decoder, DiffusionDecoder)
    net: Any = decoder.net
    x, noise, t = policy.codec.encode(io["in.action"], {}), io["noise.train"], 1 - io["noise.time"]
    mixed = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    told, ones = io["noise.time"][:, None], torch.ones(len(x), 1)
    found = {"out.velocity": -net(mixed, told, ctx), "out.velocity_t1_cached": -net(mixed, ones, ctx)}
    found["out.time_emb"] = net._sinusoids(told, x.new_empty(0, 0, net.stream.width))
    suffix, steered = net._embed(mixed, told)
    if net.adaptive:
        found["out.adarms_cond"] = steered
    found["out.suffix_embs"] = suffix if net.state is None else torch.cat([net.state(ctx.vector)[:, None], suffix], 1)

    def loss(rows: slice) -> Tensor:
        weight = policy.codec.weight(torch.zeros(x[rows].shape[:2], dtype=torch.bool))
        part = ctx.map(lambda value: value[rows])
        return decoder.loss_at(part, x[rows], weight=weight, t=t[rows], noise=noise[rows])["velocity"]

    found["loss"] = loss(slice(None))
    found["out.loss_per_sample"] = torch.stack([loss(slice(i, i + 1)) for i in range(len(x))])
    return found
