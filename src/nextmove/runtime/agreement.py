"""How far a language model in another precision is from float32: what each holds likeliest after the same ids.

Shapes: B texts, L ids, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context


@dataclass(frozen=True)
class Agreement:
    """Over `tokens` places: the share whose likeliest next id is the same, and how far apart log-probabilities are."""

    same: float
    largest: float
    mean: float
    tokens: int

    def __str__(self) -> str:
        return (
            f"after {self.tokens} tokens the likeliest next is float32's in {self.same:.1%}; log-probabilities of "
            f"these differ by {self.mean:.2g}, at most {self.largest:.2g}"
        )


@torch.no_grad()
def agreement(network: nn.Module, reference: nn.Module, ids: Tensor, first: int = 1) -> Agreement:
    """Of two networks `(ids, ctx, state) -> (logits, state)` over texts (B, L), at the places from `first` on.

    Place i is what is said after the first i ids. Raises ValueError where there is none.
    """
    if not 1 <= first <= ids.shape[1]:
        raise ValueError(f"ids: expected at least {max(first, 1)} a text, found {ids.shape[1]}")
    ctx = Context.empty(len(ids))
    mine, theirs = (net(ids, ctx, None)[0][:, first - 1 :].log_softmax(-1) for net in (network, reference))
    best = theirs.argmax(-1, keepdim=True)
    apart = (mine.gather(-1, best) - theirs.gather(-1, best)).abs()
    same = (mine.argmax(-1, keepdim=True) == best).double().mean()
    return Agreement(float(same), float(apart.max()), float(apart.mean()), best.numel())
