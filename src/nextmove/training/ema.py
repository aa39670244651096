"""Averaged weights: what is judged and saved."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from nextmove.contracts import _torch


def decay(step: int, cap: float = 0.9999) -> float:
    """Decay of the update after step number `step`, counted from 1: 1 - (1 + s)^-0.75 with s = step - 1, at most `cap`.

    0.4054 at step 2, 0.822 at 10, 0.968 at 100, 0.9944 at 1000 (Chi et al. 2023, Diffusion Policy, with power 0.75).
    """
    return min(cap, 1 - math.pow(max(1, step), -0.75))


class Ema:
    """A copy of a model whose trainable parameters are averages over the steps; `cap` 0 means no averaging.

    Buffers and frozen parameters are not averaged but copied, by `refresh`.
    """

    def __init__(self, model: nn.Module, cap: float) -> None:
        if not 0 <= cap < 1:
            raise ValueError(f"optim.ema: expected a decay in [0, 1), found {cap}")
        self.cap = cap
        self.model = copy.deepcopy(model).requires_grad_(False).eval() if cap else model
        live, mine = dict(model.named_parameters()), dict(self.model.named_parameters())
        names = [name for name, p in live.items() if p.requires_grad and p.is_floating_point()]
        self._average: list[Tensor] = [mine[name] for name in names]
        self._live: list[Tensor] = [live[name] for name in names]
        copied: list[tuple[Tensor, Tensor]] = [(mine[name], p) for name, p in live.items() if name not in names]
        kept = [*copied, *zip(self.model.buffers(), model.buffers(), strict=True)]
        self._copied = kept if cap else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 1."""
        if self.cap:
            _torch.lerp_(self._average, self._live, 1 - decay(step, self.cap))

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies what is not averaged; to be called before the averaged model is used."""
        for mine, live in self._copied:
            mine.copy_(live)
