"""How different two images look: the distance between their features in a fixed network.

Shapes: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import normal, seeded


class Perceptual(nn.Module):
    """Squared distance of features of unit length at each position, averaged over positions, summed over layers.

    The form of LPIPS (Zhang et al. 2018, equation 1) without its learnt weights; what it measures is decided by
    `features`, a module (B, C, height, width) -> a list of (B, c, h, w), whose parameters are fixed.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features.requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances (B,) of images x and y (B, C, height, width) in [-1, 1]; 0 for equal ones."""
        distance = x.new_zeros(len(x), dtype=torch.float32)
        for a, b in zip(self.features(x), self.features(y), strict=True):
            distance = distance + (_unit(a) - _unit(b)).square().sum(1).mean((1, 2))
        return distance


def _unit(x: Tensor) -> Tensor:
    """x (B, c, h, w) in float32 with length 1 over c; near 0 where x is."""
    return F.normalize(x.float(), dim=1, eps=1e-5)


@dataclass(frozen=True)
class RandomFeatures:
    """Features of a network that was never trained: orthogonal 3 x 3 convolutions and ReLU, halved between layers.

    A substitute, that needs no weights from elsewhere, for the trained features of LPIPS: it sees edges and textures
    over 3, 8 and 18 pixels, knows nothing of what people notice, and its numbers are not comparable with LPIPS.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    seed: int = 0

    def build(self, *, shape: tuple[int, ...]) -> Perceptual:
        """The distance of images of `shape` (C, height, width); layers for which they are too small are left out."""
        depth = max(1, min(len(self.widths), min(shape[1:]).bit_length() - 1))
        return Perceptual(Fixed(shape[0], self.widths[:depth], self.seed))


class Fixed(nn.Module):
    """The features after each convolution; the kernels are buffers and so saved with the model."""

    def __init__(self, channels: int, widths: Sequence[int], seed: int) -> None:
        super().__init__()
        for i, (before, after) in enumerate(pairwise((channels, *widths))):
            self.register_buffer(f"kernel{i}", orthogonal(after, before, seeded(seed, i)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """A list of (B, c, h, w), each layer half as high and wide as the one before."""
        found: list[Tensor] = []
        for kernel in self.buffers():
            x = F.relu(F.conv2d(F.avg_pool2d(x, 2) if found else x, kernel, padding=1))
            found.append(x)
        return found


def orthogonal(after: int, before: int, rng: torch.Generator) -> Tensor:
    """3 x 3 kernels (after, before, 3, 3) whose rows (or, if there are more of them, columns) are orthonormal.

    Scaled by sqrt(2), so that ReLU leaves the size of the signal as it is.
    """
    with torch.device("cpu"):
        draw = normal((after, before * 9), rng)
        tall = draw if after >= before * 9 else draw.T
        q, r = torch.linalg.qr(tall)
        # The sign of r's diagonal is the algorithm's choice; with this one q does not depend on it.
        q = q * r.diagonal().sign()
    return (2**0.5 * (q if after >= before * 9 else q.T)).reshape(after, before, 3, 3)
