"""Two squares, two instructions, and which of two motions is right: a task that has to be seen and heard.

In every picture a red and a blue square lie at a side each. One instruction is a motion to the side of the red square,
the other in the same picture the opposite motion. The picture alone says nothing of which is right, and neither does
the instruction. The hand opens for red and closes for blue, which is only to be heard.

Shapes: B scenes, T observation steps, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextmove import store
from nextmove.contracts import TASK, Feature, Rng, seeded, total
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import Policy, PolicySpec, Timing
from nextmove.models.policy.pi0_fast import BYTES, written

CAMERA, OWN, SIDE = "observation.image", "observation.state", 32
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
INPUTS = {CAMERA: Feature("image", (SIDE, SIDE, 3)), OWN: Feature("state", (2,)), TASK: Feature("text")}
SPEC = PolicySpec(INPUTS, 2, 10.0)
TASKS = ("go to the red one", "fetch blue")


def scenes(count: int, timing: Timing, rng: Rng, *, alone: float = 0.0) -> dict[str, Any]:
    """A batch as training and acting have it, and `side` (B,): -1 where the right motion is to the left, else 1.

    alone: share of scenes in which the other square is absent, from which looking is learned first.
    """
    draw = torch.rand(count, 7, generator=rng)  # type: ignore[arg-type]
    red, told = draw[:, 0] < 0.5, (draw[:, 1] < 0.5).long()
    images = torch.full((count, SIDE, SIDE, 3), 200, dtype=torch.uint8)
    for i, (colour, left) in enumerate(zip(COLOURS.values(), (red, ~red), strict=True)):
        places = (draw[:, 2 + 2 * i : 4 + 2 * i] * torch.tensor([SIDE - 8, 5])).long().tolist()
        for row, (down, across) in enumerate(places):
            if told[row] != i and draw[row, 6] < alone:
                continue
            start = across if left[row] else SIDE - 8 - across
            images[row, down : down + 8, start : start + 8] = torch.tensor(colour, dtype=torch.uint8)
    side = torch.where(red == (told == 0), -1.0, 1.0)
    steps = torch.arange(1, timing.horizon + 1) / timing.horizon
    still = timing.align == "first_observation"
    across = side[:, None].expand(-1, timing.horizon) if still else side[:, None] * steps
    return {
        CAMERA: images[:, None].expand(-1, timing.n_obs_steps, -1, -1, -1),
        OWN: torch.zeros(count, timing.n_obs_steps, 2),
        TASK: [TASKS[i] for i in told.tolist()],
        "action": torch.stack([across, torch.where(told == 0, 0.5, -0.5)[:, None].expand_as(across)], -1),
        "action_is_pad": torch.zeros(count, timing.horizon, dtype=torch.bool),
        "side": side,
    }


def _tiny(system: str, horizon: int) -> Any:
    """The system's recipe with a language model of two layers and towers of one."""
    own = recipe_for(system, INPUTS)
    language = own.encoder.language
    shared = min(language.heads.n_kv_heads or 4, 4)
    heads = replace(language.heads, n_heads=4, n_kv_heads=shared, head_dim=16)
    units, scale = replace(language.feedforward, hidden=128), 8.0 if language.embed_scale != 1 else 1.0
    language = replace(language, width=64, layers=2, heads=heads, feedforward=units, embed_scale=scale)
    towers = tuple(
        replace(
            tower,
            image=SIDE,
            patch=8,
            stem=(),
            width=64,
            layers=1,
            heads=4,
            feedforward=replace(tower.feedforward, hidden=128),
        )
        for tower in own.encoder.towers
    )
    timing = replace(own.timing, horizon=horizon, n_action_steps=horizon)
    return replace(own, timing=timing, encoder=replace(own.encoder, language=language, towers=towers))


def _expert(system: str) -> Any:
    """The same with a small expert."""
    own = _tiny(system, 4)
    trunk = replace(
        own.decoder.trunk, width=64, heads=4, feedforward=replace(own.decoder.trunk.feedforward, hidden=128)
    )
    return replace(own, decoder=replace(own.decoder, trunk=trunk))


def _rt1() -> Any:
    timing = Timing(n_obs_steps=2, horizon=2, n_action_steps=1, align="first_observation")
    return replace(recipe_for("rt1", INPUTS), timing=timing)


def _fast(pieces: int = 48) -> Any:
    """With so few pieces that a chunk takes several of them."""
    own = _tiny("pi0-fast", 4)
    return replace(
        own,
        encoder=replace(own.encoder, ids=BYTES + pieces + 1),
        actions=replace(own.actions, fast=pieces),
        decoder=written(BYTES, pieces, 1, (257,), BYTES + pieces),
    )


TINY: dict[str, tuple[Callable[[], Any], int, float]] = {
    "rt1": (_rt1, 400, 2e-3),
    "rt2": (lambda: _tiny("rt2", 1), 450, 2e-3),
    "openvla": (lambda: _tiny("openvla", 1), 400, 2e-3),
    "openvla-oft": (lambda: _tiny("openvla-oft", 2), 500, 5e-4),
    "pi0": (lambda: _expert("pi0"), 1000, 1e-3),
    "pi05": (lambda: _expert("pi05"), 1200, 1e-3),
    "pi0-fast": (_fast, 900, 2e-3),
    "smolvla": (lambda: _expert("smolvla"), 400, 2e-3),
}
"""A tiny form of each system, how many steps it is trained, and its learning rate."""


def trained(system: str, *, batch: int = 32) -> Policy:
    """A policy trained from scratch on scenes that are drawn anew at every step."""
    recipe, steps, lr = TINY[system]
    torch.manual_seed(0)
    policy: Policy = store.create(system, SPEC, recipe())
    rng, timing = seeded(0), policy.timing
    policy.fit([scenes(64, timing, rng)])
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr, (0.9, 0.98), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / 20, 2 - 2 * i / steps, 1.0))
    policy.train()
    for _ in range(steps):
        loss: Tensor = total(policy.loss(scenes(batch, timing, rng, alone=0.5), rng=rng))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
    return policy.eval()


def right(policy: Policy, *, shuffled: bool = False, count: int = 64) -> float:
    """Share of new scenes in which the plan ends nearer to the right motion's end than to the other's.

    shuffled: with another scene's instruction.
    """
    batch = scenes(count, policy.timing, seeded(1))
    obs = {name: batch[name] for name in policy.inputs}
    if shuffled:
        order = torch.randperm(count, generator=seeded(2))
        obs[TASK] = [batch[TASK][i] for i in order.tolist()]
    plan = policy.act(obs, rng=seeded(3)).actions
    return float((plan[:, -1, 0] * batch["side"] > 0).float().mean())
