"""Networks of images whose feature maps a condition scales and shifts (FiLM, Perez et al. 2018).

Shapes: N images, C channels, W width of the condition, S tokens, D their width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nextmove.nn.efficientnet import EfficientNet, EfficientNetLite
from nextmove.nn.frozen import convolved
from nextmove.nn.resnet import ResNet
from nextmove.nn.small_resnet import SmallResNet
from nextmove.nn.token_learner import TokenLearner

Filmable = ResNet | SmallResNet | EfficientNet | EfficientNetLite
"""Networks in blocks, which a condition can reach."""


class Film(nn.Linear):
    """Maps (N, C, height, width) and a condition (N, W) -> (1 + a) maps + b, a and b linear in the condition.

    Both are 0 at first, so that a network begins as the one without them.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__(condition, 2 * channels)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """The maps' shape."""
        scale, shift = super().forward(condition)[..., None, None].chunk(2, 1)
        return (1 + scale) * maps + shift


class Filmed(nn.Module):
    """(images (N, 3, height, width), condition (N, W)) -> maps (N, C, height / stride, width / stride).

    After each block maps are scaled and shifted by a `Film` of their own.
    """

    def __init__(self, config: Filmable, condition: int) -> None:
        super().__init__()
        self.backbone = config.build()
        self.film = nn.ModuleList(Film(condition, block.out) for block in self.backbone.blocks)  # type: ignore[arg-type]
        self.out = self.backbone.out

    def maps(self, image: Tensor, condition: Tensor) -> Tensor:
        """The last maps."""
        maps: Any = self.backbone.first(image)
        for block, film in zip(self.backbone.blocks, self.film, strict=True):
            maps = film(block(maps), condition)
        return self.backbone.last(maps)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """The mean over places of the last maps, (N, C)."""
        return self.maps(image, condition).mean((2, 3))


class FilmedTokens(Filmed):
    """(images, condition) -> tokens (N, S, D) of a `TokenLearner` (RT-1; Brohan et al. 2022, section 5.1).

    A convolution of 1 x 1 brings the last maps to D channels, which are scaled and shifted once more.
    """

    def __init__(self, config: Filmable, condition: int, width: int, tokens: int) -> None:
        super().__init__(config, condition)
        self.project = nn.Conv2d(self.out, width, 1, bias=False)
        self.end = Film(condition, width)
        self.learner = TokenLearner(width, tokens)

    def features(self, image: Tensor, condition: Tensor) -> Tensor:
        """What tokens are learned of, (N, D, height / stride, width / stride)."""
        found: Tensor = self.end(convolved(self.project, self.maps(image, condition), self.project.weight), condition)
        return found

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """(N, S, D)."""
        tokens: Tensor = self.learner(self.features(image, condition))
        return tokens
