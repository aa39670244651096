"""Momentum copies of encoders and a queue of what they said: many more negatives than a batch has (He et al. 2020).

Shapes: B rows, D features, Q places of the queue.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Follower(nn.Module):
    """A copy of modules whose weights are running means of theirs.

    They are buffers: nothing trains them, and checkpoints hold them. Parts that the modules share, theirs share too.
    """

    def __init__(self, modules: nn.ModuleDict, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"momentum: expected a decay in [0, 1), found {decay}")
        self.decay = decay
        self.copies = copy.deepcopy(modules)
        known: dict[int, Tensor] = {}
        for module in self.copies.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                del module._parameters[name]
                module.register_buffer(name, known.setdefault(id(parameter), parameter.detach()))

    @torch.no_grad()
    def follow(self, modules: nn.ModuleDict) -> None:
        """mean <- decay mean + (1 - decay) weight, for every weight of the modules that were copied."""
        means = dict(self.copies.named_buffers())
        for name, weight in modules.named_parameters():
            means[name].lerp_(weight.to(means[name]), 1 - self.decay)

    def begin(self, modules: nn.ModuleDict) -> None:
        """Makes the means the weights themselves."""
        means = dict(self.copies.named_buffers())
        with torch.no_grad():
            for name, weight in modules.named_parameters():
                means[name].copy_(weight)


class FeatureQueue(nn.Module):
    """The newest Q features of images and of their texts, (D, Q) each; the oldest make room.

    `ids` (2, Q) are the numbers by which equal images and equal texts are known, -1 for none.
    """

    image: Tensor
    text: Tensor
    ids: Tensor
    place: Tensor

    def __init__(self, width: int, size: int) -> None:
        """Raises ValueError for a size below 1."""
        super().__init__()
        if size < 1:
            raise ValueError(f"queue: expected at least 1 place, found {size}")
        self.size = size
        for name in ("image", "text"):
            self.register_buffer(name, F.normalize(torch.randn(width, size), dim=0))
        self.register_buffer("ids", torch.full((2, size), -1))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def push(self, image: Tensor, text: Tensor, ids: Tensor | None = None) -> None:
        """Takes up features (B, D) of each and their numbers (2, B); raises ValueError where B does not divide Q."""
        rows, first = len(image), int(self.place)
        if self.size % rows:
            raise ValueError(f"queue: expected a multiple of the batch of {rows}, found {self.size} places")
        for queue, features in ((self.image, image), (self.text, text)):
            queue[:, first : first + rows] = features.mT.to(queue)
        self.ids[:, first : first + rows] = -1 if ids is None else ids
        self.place[0] = (first + rows) % self.size


def soft_contrast(online: Tensor, taught: Tensor, alpha: float, same: Tensor | None = None) -> Tensor:
    """Mean () cross-entropy of the logits `online` (B, N) with soft targets.

    Targets are alpha softmax(taught) + (1 - alpha) times the pairs that are known: the diagonal, or `same` (B, N) bool,
    each row's in equal shares (Li et al. 2021, ALBEF, equation 6; Li et al. 2022, BLIP).
    """
    known = torch.eye(*online.shape, device=online.device) if same is None else same.to(online)
    targets = alpha * taught.detach().softmax(1) + (1 - alpha) * known / known.sum(1, keepdim=True)
    return F.cross_entropy(online, targets)


def ramp(step: int, steps: int, most: float) -> float:
    """`most`, to which it rises in a straight line from 0 over the first `steps` steps."""
    return most * min(1.0, step / steps) if steps else most
