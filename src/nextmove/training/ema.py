"""Averaged weights, which are judged and saved."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nextmove.contracts import _torch
from nextmove.training.sharded import local


def decay(step: int, cap: float = 0.9999) -> float:
    """Decay of the update after step number `step`, counted from 1: 1 - (1 + s)^-0.75 with s = step - 1, at most `cap`.

    0.4054 at step 2, 0.822 at 10, 0.968 at 100, 0.9944 at 1000 (Chi et al. 2023, Diffusion Policy, with power 0.75).
    """
    return min(cap, 1 - math.pow(max(1, step), -0.75))


class Ema:
    """A copy of a model whose trainable parameters are averages over the steps; `cap` 0 means no averaging.

    Frozen parameters are the model's own, not copies; buffers are copied by `refresh`.
    """

    def __init__(self, model: nn.Module, cap: float) -> None:
        self.cap = cap
        live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if cap:
            _check_precision(live)
        # What deepcopy finds in its memo it does not copy.
        shared = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.model = copy.deepcopy(model, shared).requires_grad_(False).eval() if cap else model
        self.bind(model)

    def bind(self, model: nn.Module) -> None:
        """Averages the parameters that the model has from now on, which may be shares of what they were."""
        live, mine = dict(model.named_parameters()), dict(self.model.named_parameters())
        names = [name for name, p in live.items() if p.requires_grad]
        self._average: list[Tensor] = [local(mine[name]) for name in names]
        self._live: list[Tensor] = [local(live[name]) for name in names]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True)) if self.cap else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 1."""
        if self.cap:
            _torch.lerp_(self._average, self._live, 1 - decay(step, self.cap))

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the buffers; to be called before the averaged model is used."""
        for mine, live in self._buffers:
            mine.copy_(live)


def _check_precision(parameters: Mapping[str, Tensor]) -> None:
    """Raises ValueError for numbers too coarse to be moved by a ten-thousandth of what they differ by."""
    for name, p in parameters.items():
        if p.dtype.itemsize < 4:
            raise ValueError(
                f"optim.ema: expected parameters of float32 to average, found {name} of {p.dtype}, which would stay "
                "where it begins; train it in float32 (parameter.data = parameter.data.float()) or set optim.ema to 0"
            )
