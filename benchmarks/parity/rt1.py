"""RT-1: tokens of images, the training pass, and a rollout.

The reference keeps the tokens of earlier frames and begins with one; our policy keeps no state, so at every call it is
shown the frames that the reference knows: those so far, and then the last ones of its window.

Shapes: T frames, M answers to a frame, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context, seeded
from nextmove.interop import rt1


@torch.no_grad()
def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """Everything that a case has."""
    loaded = rt1.load(folder)
    policy, config, images = loaded.policy, loaded.config, io["in.images"]
    decoder: Any = policy.decoder
    part: Any = policy.encoder.parts[0]  # type: ignore[attr-defined]
    frames = config.frames

    def seen(window: Tensor) -> Context:
        obs = {rt1.CAMERA: window[None], rt1.TOLD: io["in.context"].expand(1, len(window), -1)}
        return Context(1, tokens=part(obs, batch=1, steps=len(window)))

    ctx = seen(images[:frames])
    maps = part.networks[0].features(part.pictures[0](images[None, :frames]), io["in.context"].expand(frames, -1))
    ids = policy.codec.encode(torch.cat([io[f"in.action.{name}"].float() for name in config.bounds], -1)[None], {})
    logits = decoder.logits(ctx, ids.shape[1])
    answered = ids.shape[1] // frames
    errors = F.cross_entropy(logits[0], ids[0], reduction="none").view(frames, answered).mean(1)
    # The reference divides by the tokens of all frames.
    errors = errors / (frames * decoder.net.length)
    found = {
        "out.features_shape": torch.tensor(maps.permute(0, 2, 3, 1).shape),
        "out.features_corner": maps.permute(0, 2, 3, 1)[:, ::4, ::4, ::8],
        "out.image_tokens": ctx.tokens.unflatten(1, (frames, -1))[0],  # type: ignore[union-attr]
        "out.attention_mask": decoder.net.mask(frames),
        "out.action_logits": logits.view(frames, answered, -1),
        "out.loss_per_step": errors,
        "loss": errors.mean(),
    }
    rollout = []
    for i in range(len(images)):
        window = images[max(0, i + 1 - frames) : i + 1]
        drawn = decoder.sample(seen(window), shape=(len(window) * answered,), rng=seeded(0))
        rollout.append(drawn[0, -answered:])
    found["out.rollout_actions"] = policy.codec.decode(torch.stack(rollout), {})[:, 0]
    texts = {"out.action_tokens": ids.view(frames, answered), "out.rollout_tokens": torch.stack(rollout)}
    return Answers(
        {name: value.float() for name, value in found.items()},
        texts={name: value.to(io[name].dtype) for name, value in texts.items()},
        report=loaded.report,
    )
