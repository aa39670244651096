"""Contrastive losses: an image and its text belong together, every other pair of a batch does not.

Shapes: B rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Rule = Literal["softmax", "sigmoid"]


def softmax_loss(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """Mean () of the cross-entropies of logits (B, B) along rows and along columns, with the diagonal as targets.

    same: (B, B) bool, the pairs that are as right as the diagonal's; each row, and each column, shares its target among
    its own. InfoNCE in both directions (Radford et al. 2021, figure 3).
    """
    if same is None:
        place = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, place) + F.cross_entropy(logits.mT, place)) / 2
    share = same.to(logits)
    found = [F.cross_entropy(x, t / t.sum(1, keepdim=True)) for x, t in ((logits, share), (logits.mT, share.mT))]
    return (found[0] + found[1]) / 2


def sigmoid_loss(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """-(1 / B) () sum of log sigmoid(z logits) over all pairs (B, B), z = 1 on the diagonal and -1 off it.

    same: (B, B) bool, the pairs of z = 1. (Zhai et al. 2023, equation 1 and algorithm 1.)
    """
    same = torch.eye(len(logits), dtype=torch.bool, device=logits.device) if same is None else same
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(logits)


@dataclass(frozen=True)
class Contrastive:
    """Which loss is taken of the logits (B, B) of images and texts, and how large their scale may become.

    softmax: which of the batch's texts an image has, and which image a text. sigmoid: whether each pair belongs
    together, on its own.
    """

    rule: Rule = "softmax"
    most: float = math.inf
    """Largest scale; a step that goes beyond it is taken back to it before the next."""
    shared: bool = True
    """Whether pairs of one image, or of one text, count as right wherever they stand in the batch. CLIP and SigLIP take
    the diagonal alone, which is as good where no text comes twice."""

    def __post_init__(self) -> None:
        if self.rule not in ("softmax", "sigmoid"):
            raise ValueError(f"rule: expected softmax or sigmoid, found {self.rule!r}")
        if not self.most > 0:
            raise ValueError(f"most: expected a scale of more than 0, found {self.most:g}")

    def loss(self, logits: Tensor, same: Tensor | None = None) -> dict[str, Tensor]:
        """{contrastive: ()}; same: as of `softmax_loss` and `sigmoid_loss`."""
        rule = softmax_loss if self.rule == "softmax" else sigmoid_loss
        return {"contrastive": rule(logits.float() if logits.dtype.itemsize < 4 else logits, same)}

    @torch.no_grad()
    def bound(self, log_scale: Tensor) -> None:
        """Takes a scale that is larger than `most` back to it, in place (Radford et al. 2021, section 2.5)."""
        if self.most < math.inf:
            log_scale.clamp_(max=math.log(self.most))


def equal_pairs(*ids: Tensor) -> Tensor:
    """(B, B) bool: rows that have one of these numbers (B,) in common; negative numbers are nobody's."""
    found = [(one[:, None] == one) & (one >= 0) for one in ids]
    own = torch.eye(len(ids[0]), dtype=torch.bool, device=ids[0].device)
    return torch.stack([*found, own]).any(0)
