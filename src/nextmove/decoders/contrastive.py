"""Contrastive losses: an image and its text belong together, every other pair of a batch does not.

Shapes: B rows, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
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
    """Images and texts as points of one sphere; logits = scale <image, text> + bias.

    softmax loss: which of the batch's texts an image has, and which image a text. sigmoid loss: whether each pair
    belongs together, on its own.
    """

    rule: Rule = "softmax"
    scale: float = 1 / 0.07
    """What the scale starts at."""
    bias: float | None = None
    """What the bias starts at; None = there is none."""
    most: float = math.inf
    """Largest scale; a step that goes beyond it is taken back to it before the next."""

    def __post_init__(self) -> None:
        if self.rule not in ("softmax", "sigmoid"):
            raise ValueError(f"rule: expected softmax or sigmoid, found {self.rule!r}")
        if not 0 < self.scale <= self.most:
            raise ValueError(f"scale: expected more than 0, at most {self.most:g}, found {self.scale:g}")

    @classmethod
    def clip(cls) -> Contrastive:
        """CLIP's: scale 1 / 0.07, at most 100 (Radford et al. 2021, section 2.5)."""
        return cls(most=100.0)

    @classmethod
    def siglip(cls) -> Contrastive:
        """SigLIP's: scale 10 and bias -10 (Zhai et al. 2023, section 3.2)."""
        return cls("sigmoid", 10.0, -10.0)

    def build(self) -> ContrastiveDecoder:
        """The module with the scale and the bias."""
        return ContrastiveDecoder(self)


class ContrastiveDecoder(nn.Module):
    """`log_scale` () and, where there is one, `bias` ()."""

    def __init__(self, config: Contrastive) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.bias = None if config.bias is None else nn.Parameter(torch.tensor(float(config.bias)))

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """(I, T) of features (I, D) and (T, D) of unit length, float32 or wider."""
        wide = torch.promote_types(image.dtype, torch.float32)
        with torch.autocast(image.device.type, enabled=False):
            found = self.log_scale.exp() * (image.to(wide) @ text.to(wide).mT)
        return found if self.bias is None else found + self.bias

    def loss(self, image: Tensor, text: Tensor, same: Tensor | None = None) -> dict[str, Tensor]:
        """{contrastive: ()} of the features (B, D) of B pairs; same: as of `softmax_loss` and `sigmoid_loss`.

        In training the scale is first taken back to its largest.
        """
        if self.training and self.config.most < math.inf:
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(self.config.most))
        rule = softmax_loss if self.config.rule == "softmax" else sigmoid_loss
        return {"contrastive": rule(self.logits(image, text), same)}


def unit(x: Tensor) -> Tensor:
    """x (..., D) over its length."""
    return F.normalize(x, dim=-1)
