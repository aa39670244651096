"""Pictures of any shape as the square that a vision tower reads, each value in [0, 1].

Shapes: N pictures, S side of the square, px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.encoders.pictures import SCALES
from nextmove.encoders.prepared import Prepared


@dataclass(frozen=True)
class Framed:
    """Whether a picture keeps its proportions, and where it lies in the square: what is beside it is 0."""

    place: Literal["centre", "corner", "stretch"] = "centre"
    """In the middle (pi0; Black et al. 2024), in the lower right corner (SmolVLA; Shukor et al. 2025), or stretched
    over the whole square (OpenVLA; Kim et al. 2024)."""
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    """Stretched bytes pass Pillow's filter; all else torch's, bilinear, without antialiasing."""

    def __post_init__(self) -> None:
        if self.place not in ("centre", "corner", "stretch"):
            raise ValueError(f"framed.place: expected centre, corner or stretch, found {self.place!r}")

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """(N, 3, S, S) float32 in [0, 1] of images (N, height, width, 3), uint8 or floating in [0, 1]."""
        if self.place == "stretch" and images.dtype == torch.uint8:
            mean, std = SCALES["unit"]
            prepared = Prepared(size=(side, side), filter=self.filter, crop=None, mean=mean, std=std)
            return prepared(list(images.cpu())).to(images.device)
        x = images.permute(0, 3, 1, 2)
        x = x.float() / 255 if images.dtype == torch.uint8 else x.float()
        if self.place == "stretch":
            size, antialias = (side, side), True
            return F.interpolate(x, size, mode=self.filter, align_corners=False, antialias=antialias).clamp(0, 1)
        height, width = x.shape[2:]
        ratio = max(width / side, height / side)
        rows, columns = int(height / ratio), int(width / ratio)
        if (rows, columns) != (height, width):
            x = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False).clamp(0, 1)
        down, across = side - rows, side - columns
        if self.place == "corner":
            return F.pad(x, (across, 0, down, 0))
        return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
