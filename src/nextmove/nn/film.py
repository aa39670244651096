"""A residual network whose feature maps a condition scales and shifts (FiLM, Perez et al. 2018).

Shapes: N images, W width of the condition.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nextmove.nn.resnet import ResNet


class FilmedResNet(nn.Module):
    """(images (N, 3, height, width), condition (N, W)) -> (N, 512): after each block maps become (1 + a) maps + b.

    a and b are linear in the condition and 0 at first, so that the network begins as the one without it. The mean over
    places of the last maps is the answer.
    """

    def __init__(self, config: ResNet, condition: int) -> None:
        super().__init__()
        self.backbone = config.build()
        self.film = nn.ModuleList(nn.Linear(condition, 2 * block.out) for block in self.backbone.blocks)
        self.out = self.backbone.out
        for layer in self.film:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """(N, 512)."""
        maps: Any = self.backbone.stem(image)
        for block, film in zip(self.backbone.blocks, self.film, strict=True):
            scale, shift = film(condition)[..., None, None].chunk(2, 1)
            maps = (1 + scale) * block(maps) + shift
        pooled: Tensor = maps.mean((2, 3))
        return pooled
