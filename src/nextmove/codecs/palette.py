"""Images as colours of a palette, one id a pixel.

Shapes: B batch, C channels, K colours, N colours of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.contracts import Rng

Array = np.ndarray[Any, Any]


class Palette(nn.Module):
    """The K colours that k-means finds in the data; a pixel is the nearest one (Chen et al. 2020, section 3.1).

    Distances are squared and Euclidean. The palette comes from `fit` or with a saved state; encoding before raises.
    """

    colours: Tensor

    def __init__(self, *, height: int, width: int, channels: int = 3, colours: int = 512) -> None:
        super().__init__()
        if colours < 2:
            raise ValueError(f"colours: expected at least 2, found {colours}")
        self.height, self.width, self.channels, self.classes = height, width, channels, colours
        # NaN marks what was never fitted.
        self.register_buffer("colours", torch.full((colours, channels), torch.nan))

    @property
    def length(self) -> int:
        """Ids of one image."""
        return self.height * self.width

    def fit(self, images: Tensor, *, seed: int = 0, rounds: int = 100, most: int = 2_000_000) -> float:
        """Finds the palette of images (B, C, height, width) in [0, 1]; returns its mean squared error a pixel.

        seed: of the choice of the first colours, and of the `most` pixels used where there are more. rounds: at most.
        Raises ValueError where the images have fewer than K different colours, or values that are not finite.
        """
        pixels = images.permute(0, 2, 3, 1).reshape(-1, self.channels).cpu().numpy()
        if not np.isfinite(pixels).all():
            raise ValueError("image: expected finite values, found NaN or infinity")
        rng = np.random.default_rng(seed)
        if len(pixels) > most:
            pixels = pixels[rng.choice(len(pixels), most, replace=False)]
        found, counts = np.unique(pixels, axis=0, return_counts=True)
        if len(found) < self.classes:
            raise ValueError(f"image: expected at least {self.classes} different colours, found {len(found)}")
        points, weights = found.astype(np.float64), counts.astype(np.float64)
        centres, error = lloyd(points, weights, plus_plus(points, weights, self.classes, rng), rounds)
        self.colours.copy_(torch.from_numpy(centres))
        return error

    def encode(self, raw: Tensor, rng: Rng | None = None) -> Tensor:
        """Images (B, C, height, width) to ids (B, height width) int64; the first of equally near colours."""
        if not bool(self.colours.isfinite().all()):
            raise ValueError("palette: its colours are absent; fit them or load them first")
        if not bool(raw.isfinite().all()):
            raise ValueError("image: expected finite values, found NaN or infinity")
        pixels = raw.permute(0, 2, 3, 1).flatten(1, 2).to(self.colours)
        # A few images at a time, and without the shorter formula, whose rounding could exchange near colours.
        near = [(part[..., None, :] - self.colours).square().sum(-1).argmin(-1) for part in torch.split(pixels, 4)]
        return torch.cat(near)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, height width) to images (B, C, height, width)."""
        return self.colours[x].view(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)


def plus_plus(points: Array, weights: Array, k: int, rng: np.random.Generator) -> Array:
    """k different starting points (k, C) of `points` (N, C), that many being different and weighing (N,).

    Each is drawn with a probability in proportion to its weight times its squared distance from those before it
    (Arthur and Vassilvitskii 2007, algorithm 1).
    """
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    for _ in range(k - 1):
        share = weights * nearest
        chosen.append(int(rng.choice(len(points), p=share / share.sum())))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[chosen]


def lloyd(points: Array, weights: Array, centres: Array, rounds: int) -> tuple[Array, float]:
    """Centres (k, C) moved to the weighted means of what is nearest to them until that is settled, and mean error.

    A centre that is nearest to nothing takes the place of the point that adds most to the error.
    """
    owner, distance = _nearest(points, centres)
    for _ in range(rounds):
        mass = np.bincount(owner, weights, len(centres))
        sums = np.stack([np.bincount(owner, weights * column, len(centres)) for column in points.T], 1)
        lost = np.flatnonzero(mass == 0)
        centres = sums / np.where(mass == 0, 1, mass)[:, None]
        if len(lost):
            centres[lost] = points[np.argsort(-weights * distance, kind="stable")[: len(lost)]]
        before = owner
        owner, distance = _nearest(points, centres)
        if np.array_equal(owner, before):
            break
    return centres, float((weights * distance).sum() / weights.sum())


def _nearest(points: Array, centres: Array) -> tuple[Array, Array]:
    """Index of and squared distance to the nearest centre of each point."""
    from scipy.spatial import cKDTree  # a quarter of a second that most commands have no use for

    distance, owner = cKDTree(centres).query(points)
    return owner, distance**2
