"""The contrast of images and texts taught by momentum copies, with a queue of negatives (ALBEF, Li et al. 2021; BLIP).

Shapes: B rows, D features, Q places of the queue, N = B + Q.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.decoders.contrastive import equal_pairs
from nextmove.decoders.momentum import FeatureQueue, Follower, ramp, soft_contrast

Features = tuple[Tensor, Tensor]
"""Unit vectors (B, D) of images and of texts."""


@dataclass(frozen=True)
class Distilled:
    """How images and texts are compared in training.

    sim = <feature, momentum's feature> / temperature over the batch and the queue; targets = alpha softmax(momentum's
    sim) + (1 - alpha) what is known; the loss is the mean of the cross-entropies from images to texts and back.
    """

    momentum: float = 0.995
    queue: int = 57_600
    """Places; the batch must divide them."""
    alpha: float = 0.4
    ramp: int = 0
    """Steps over which alpha rises from 0 (BLIP: two epochs)."""
    temperature: float = 0.07
    """What it starts at; it is learned within `bounds`."""
    bounds: tuple[float, float] = (0.001, 0.5)
    shared: bool = True
    """Whether pairs of one image, or of one text, are known to belong together, in the queue too; BLIP's pretraining
    knows the diagonal alone, its retrieval equal images."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha: expected 0 to 1, found {self.alpha}")

    def build(self, width: int, parts: nn.ModuleDict) -> DistilledContrast:
        """The module for features of `width` by these parts."""
        return DistilledContrast(self, width, parts)


@dataclass(frozen=True)
class Compared:
    """The loss (), the batch's similarities (B, B) from images to texts and from texts to images, who belongs together
    (None: the diagonal)."""

    loss: Tensor
    texts: Tensor
    images: Tensor
    same: Tensor | None


class DistilledContrast(nn.Module):
    """Temperature, momentum copies and queue."""

    steps: Tensor

    def __init__(self, config: Distilled, width: int, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.config = config
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        self.follower = Follower(parts, config.momentum)
        self.queue = FeatureQueue(width, config.queue)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        own: Features,
        taught: Callable[[nn.ModuleDict], Features],
        parts: nn.ModuleDict,
        *,
        alpha: float | None = None,
        numbers: Tensor | None = None,
    ) -> Compared:
        """The comparison of a batch.

        taught: what given parts make of the same batch. In training momentum's parts first follow `parts`, and what
        they say enters the queue in the end; otherwise both stay as they are. alpha: in place of the risen one.
        numbers: (2, B), equal for equal images and for equal texts.
        """
        c = self.config
        if self.training:
            with torch.no_grad():
                self.temperature.clamp_(*c.bounds)
            self.follower.follow(parts)
        alpha = ramp(int(self.steps), c.ramp, c.alpha) if alpha is None else alpha
        with torch.no_grad():
            image, text = taught(self.follower.copies)
            images = torch.cat([image.mT, self.queue.image.to(image)], 1)
            texts = torch.cat([text.mT, self.queue.text.to(text)], 1)
            soft = [image @ texts / self.temperature, text @ images / self.temperature]
        sim = [own[0] @ texts / self.temperature, own[1] @ images / self.temperature]
        known = self._known(numbers) if c.shared and numbers is not None else None
        losses = [soft_contrast(x.float(), y.float(), alpha, known) for x, y in zip(sim, soft, strict=True)]
        if self.training:
            self.queue.push(image, text, numbers)
            self.steps += 1
        rows = len(own[0])
        same = None if known is None else known[:, :rows]
        return Compared((losses[0] + losses[1]) / 2, sim[0][:, :rows], sim[1][:, :rows], same)

    def _known(self, numbers: Tensor) -> Tensor:
        """(B, N) bool: which of the batch and of the queue belong to each row."""
        queued = [
            (own[:, None] == there) & (own >= 0)[:, None] for own, there in zip(numbers, self.queue.ids, strict=True)
        ]
        return torch.cat([equal_pairs(*numbers), queued[0] | queued[1]], 1)
