"""What an image shows, by the vector of a vision tower.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nextmove.nn.product import Linear
from nextmove.nn.vit import VisionTowerNet


class ImageHead(nn.Module):
    """A linear map of a tower's vector: to classes (Dosovitskiy et al. 2021, section 3.1), or with tanh a pooler."""

    def __init__(self, tower: VisionTowerNet, out: int, *, tanh: bool = False) -> None:
        super().__init__()
        self.tower, self.tanh = tower, tanh
        self.head = Linear(tower.config.width, out)

    def forward(self, images: Tensor) -> Tensor:
        """(B, K) of images (B, 3, height, width), scaled as the tower reads them."""
        return self.read(self.tower(images))

    def read(self, tokens: Tensor) -> Tensor:
        """(B, K) of tokens (B, S, W) that the tower gave."""
        y: Tensor = self.head(self.tower.pooled(tokens))
        return y.tanh() if self.tanh else y
