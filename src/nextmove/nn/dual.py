"""Two towers whose vectors of images and texts lie in one space: CLIP and SigLIP.

Shapes: N images, B texts, L ids, C width of the space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.product import Linear
from nextmove.nn.text_encoder import TextEncoder
from nextmove.nn.vit import VisionTower


@dataclass(frozen=True)
class DualEncoder:
    """An image tower and a text tower, whose vectors are made one length and compared (Radford et al. 2021)."""

    image: VisionTower = VisionTower()
    text: TextEncoder = TextEncoder.clip()
    """Its `out` is the width C of the space, or its own width is."""
    project: bool = True
    """Whether the image's vector passes a linear map without bias (CLIP)."""
    bias: bool = False
    """Whether a learned number is added to every product (SigLIP; Zhai et al. 2023)."""
    scale: float = math.log(1 / 0.07)
    """Start of the logarithm of what products are multiplied by."""
    bias_start: float | None = -10.0
    """Start of that number; None: whoever builds it says."""

    def build(self, *, classes: int, length: int) -> DualEncoderNet:
        """The network of texts of at most `length` ids below `classes`.

        Raises ValueError for widths that differ, and for a number to be added without a start.
        """
        if self.bias and self.bias_start is None:
            raise ValueError("bias_start: expected a number, found none")
        return DualEncoderNet(self, classes, length)


class DualEncoderNet(nn.Module):
    """Vectors of images and of texts, each of length 1, and how well they go together."""

    def __init__(self, config: DualEncoder, classes: int, length: int) -> None:
        super().__init__()
        self.config, wide = config, config.text.out or config.text.width
        self.image = config.image.build()
        self.text = config.text.build(classes=classes, length=length)
        if not config.project and config.image.width != wide:
            raise ValueError(f"image.width: expected {wide} as of the texts' vectors, found {config.image.width}")
        self.project = Linear(config.image.width, wide, bias=False) if config.project else None
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=config.image.width**-0.5)
        # A single number as CLIP stores it, an array of one as SigLIP does.
        shape = (1,) if config.bias else ()
        self.scale = nn.Parameter(torch.full(shape, config.scale))
        start = config.bias_start
        self.bias = nn.Parameter(torch.full(shape, start)) if config.bias and start is not None else None

    def images(self, images: Tensor) -> Tensor:
        """(N, C) of images (N, 3, height, width), scaled as the tower reads them."""
        vector = self.image.pooled(self.image(images))
        return F.normalize(vector if self.project is None else self.project(vector), dim=-1)

    def texts(self, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, C) of ids (B, L); valid: (B, L), False for padding."""
        return F.normalize(self.text(ids, valid).vector, dim=-1)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """(N, B) from vectors of images (N, C) and of texts (B, C)."""
        y = self.scale.exp() * (image @ text.mT)
        return y if self.bias is None else y + self.bias
