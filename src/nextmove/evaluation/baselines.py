"""Baselines without learning, shown beside every policy: an error says little without them.

Shapes: B windows, H horizon, A action width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nextmove.contracts import Batch

HOLD, REPEAT, EXTRAPOLATE = "holding the state", "repeating the last action", "extrapolating the last two"
ZERO = "commanding zero"
IDLE = (HOLD, ZERO, REPEAT)
"""The baselines that amount to standing still."""


def baselines(batch: Batch, *, now: int, steps: int, state: str | None = None) -> dict[str, Tensor]:
    """Plans (B, steps, A) by name, made of what was known when the plan's first action was due.

    batch: windows with `action` (B, H', A) and, if any, `action_is_pad` (B, H'), as `offline` takes them.
    now: index along H' of the action that is due at the last observed step; the ones before it are the past, of which
        repeating needs one and extrapolating two.
    state: the observed feature (B, T, A) that holds the robot where the action would put it; without it zero is
        commanded, which stops a robot whose actions are velocities or displacements. At an episode's start, where
        there is no earlier action, the state stands for it, or nan where there is none; where there is one only,
        nothing is extrapolated.
    """
    action, plans = batch["action"].float().cpu(), {}
    none = torch.full_like(action[:, 0], torch.nan)
    if state is not None:
        none = batch[state][:, -1].float().cpu()
        plans[HOLD] = none[:, None].expand(-1, steps, -1)
    else:
        plans[ZERO] = torch.zeros(len(action), steps, action.shape[2])
    if now >= 1:
        last = _before(batch, action[:, now - 1], now - 1, none)
        plans[REPEAT] = last[:, None].expand(-1, steps, -1)
    if now >= 2:
        change = last - _before(batch, action[:, now - 2], now - 2, last)
        plans[EXTRAPOLATE] = last[:, None] + torch.arange(1, steps + 1)[None, :, None] * change[:, None]
    return plans


def _before(batch: Batch, action: Tensor, step: int, otherwise: Tensor) -> Tensor:
    """An earlier action (B, A), `otherwise` where the episode had not begun at this step of the window."""
    pad = batch.get("action_is_pad")
    return action if pad is None else torch.where(pad.cpu()[:, step, None], otherwise, action)
