"""How one id is chosen from logits: filters as pure functions, in the order of Hugging Face transformers.

Shapes: B batch, K classes, L ids so far. A class is removed by a logit of -inf.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """What is against repeating, then temperature, then top-k, top-p and min-p; each is off at its default."""

    temperature: float = 1.0
    """0 takes the likeliest class."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    """What a class that occurred is made less likely by (Keskar et al. 2019, section 4.1)."""
    no_repeat: int = 0
    """Length of the runs of ids that may not occur twice."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature: expected 0 or more, found {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k: expected 0 (off) or more, found {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a share in (0, 1], found {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p: expected a share in [0, 1], found {self.min_p}")
        if not self.repetition > 0:
            raise ValueError(f"repetition: expected more than 0, found {self.repetition}")
        if self.no_repeat < 0:
            raise ValueError(f"no_repeat: expected 0 (off) or more, found {self.no_repeat}")

    def penalise(self, logits: Tensor, before: Tensor) -> Tensor:
        """Logits (B, K) given the ids (B, L) before; comes before all that restricts or scales them."""
        return no_repeat(repetition(logits, before, self.repetition), before, self.no_repeat)

    def choose(self, logits: Tensor, u: Tensor) -> Tensor:
        """The id (B,) at the quantile `u` (B,) in [0, 1) of the filtered logits (B, K)."""
        return logits.argmax(-1) if self.temperature == 0 else draw(self.filter(logits), u)

    def filter(self, logits: Tensor) -> Tensor:
        """Logits (B, K), scaled and filtered; temperature 0 leaves only the first of the likeliest."""
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
        return min_p(top_p(top_k(logits / self.temperature, self.top_k), self.top_p), self.min_p)


def allow(logits: Tensor, allowed: Tensor) -> Tensor:
    """Only the classes `allowed` (K,) or (B, K) bool; raises ValueError where a row allows none."""
    if not bool(allowed.any(-1).all()):
        raise ValueError("allowed: expected at least one class for every row, found none")
    return logits.masked_fill(~allowed, -torch.inf)


def repetition(logits: Tensor, before: Tensor, penalty: float) -> Tensor:
    """Positive logits of the ids (B, L) before are divided by `penalty`, negative ones multiplied, however often."""
    if penalty == 1 or not before.shape[1]:
        return logits
    found = logits.gather(-1, before)
    return logits.scatter(-1, before, torch.where(found < 0, found * penalty, found / penalty))


def no_repeat(logits: Tensor, before: Tensor, n: int) -> Tensor:
    """Removes the classes that would make the last n ids a run that the ids (B, L) before hold; 0 keeps all."""
    if n == 0 or before.shape[1] < n:
        return logits
    runs = before.unfold(1, n, 1)
    begun = before[:, None, before.shape[1] - n + 1 :]
    again = (runs[..., :-1] == begun).all(-1)
    count = torch.zeros_like(logits, dtype=torch.long).scatter_add(-1, runs[..., -1], again.long())
    return logits.masked_fill(count > 0, -torch.inf)


def top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest logits and those tied with the k-th; 0 keeps all."""
    if not 0 < k < logits.shape[-1]:
        return logits
    least = logits.topk(k, -1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Removes, from the least likely up, the classes of cumulative probability <= 1 - p; the likeliest always stays."""
    if p >= 1:
        return logits
    ascending, order = logits.sort(-1)
    removed = ascending.softmax(-1).cumsum(-1) <= 1 - p
    removed[..., -1] = False
    return logits.masked_fill(torch.zeros_like(removed).scatter(-1, order, removed), -torch.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Removes the classes less likely than p times the likeliest."""
    if p <= 0:
        return logits
    probability = logits.softmax(-1)
    return logits.masked_fill(probability < p * probability.amax(-1, keepdim=True), -torch.inf)


def draw(logits: Tensor, u: Tensor) -> Tensor:
    """The class (...,) int64 at the quantile `u` (...,) in [0, 1) of softmax(logits (..., K)).

    Inverse of the cumulative distribution in float64; a class of probability 0 is never drawn.
    """
    summed = logits.double().softmax(-1).cumsum(-1)
    quantile = u.to(summed)[..., None] * summed[..., -1:]
    return torch.searchsorted(summed, quantile, right=True)[..., 0].clamp(max=logits.shape[-1] - 1)
