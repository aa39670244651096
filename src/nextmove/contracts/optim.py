"""Optimiser settings of a recipe, and helpers for losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts.draws import Rng
from nextmove.contracts.features import Batch


@dataclass(frozen=True)
class Optim:
    """How a recipe wants to be trained (a run may override each)."""

    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    warmup: int = 200
    """Steps of linear warm-up before the cosine."""
    batch: int = 256
    """Windows a step over all processes."""
    clip: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    ema: float = 0.9999
    """Cap of the averaged weights' decay 1 - (1 + step)^-0.75; 0 switches averaging off."""
    scales: tuple[tuple[str, float], ...] = ()
    """(prefix, factor): parameters whose names begin so learn at `factor` times the rate, at 0 not at all; a prefix is
    a path of modules (`encoder`, `decoder.net.blocks.0`) or empty (all), and the longest that fits counts."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"optim.batch: expected at least 1, found {self.batch}")
        for name in ("lr", "eps", "weight_decay", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"optim.{name}: expected a finite number of at least 0, found {getattr(self, name)}")
        if not self.clip >= 0:
            raise ValueError(f"optim.clip: expected at least 0, found {self.clip}")
        for name, decay in (("betas", self.betas[0]), ("betas", self.betas[1]), ("ema", self.ema)):
            if not 0 <= decay < 1:
                raise ValueError(f"optim.{name}: expected a decay in [0, 1), found {decay}")


def weighted_mean(error: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of `error` (B, ...) over the entries that `weight` (broadcast from the left) counts; 0 if none."""
    if weight is None:
        return error.mean()
    weight = weight.to(error.dtype)
    weight = weight.reshape(*weight.shape, *[1] * (error.dim() - weight.dim())).expand_as(error)
    return (error * weight).sum() / weight.sum().clamp_min(torch.finfo(error.dtype).tiny)


def counts(model: Any, batch: Batch, rng: Rng) -> dict[str, float]:
    """By term of the model's loss on this batch, how much its mean counts, where it tells; else that is the rows."""
    counts = getattr(model, "counts", None)
    return {} if counts is None else {name: float(count) for name, count in counts(batch, rng=rng).items()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The loss: the sum of its named terms."""
    return torch.stack(list(terms.values())).sum()
