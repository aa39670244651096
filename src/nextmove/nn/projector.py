"""What brings the tokens of an image into a language model's width, fewer of them where they are shuffled together.

Shapes: S tokens of an image, C their width, W width of the language model, r side of a shuffled block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from nextmove.nn.feedforward import ACTIVATIONS, Activation
from nextmove.nn.product import Linear


def pixel_shuffled(x: Tensor, r: int) -> Tensor:
    """(..., S / r^2, C r^2) of tokens (..., S, C) of a square grid: r x r neighbours side by side, rows first.

    Raises ValueError for a number of tokens that is no square of a multiple of r.
    """
    count = x.shape[-2]
    side = round(count**0.5)
    if side * side != count or side % r:
        raise ValueError(f"x: expected a square grid of tokens whose side {r} divides, found {count} tokens")
    blocks = x.reshape(*x.shape[:-2], side // r, r, side // r, r, x.shape[-1]).transpose(-4, -3)
    return blocks.flatten(-3).flatten(-3, -2)


@dataclass(frozen=True)
class Projector:
    """Linear maps with an activation between them (LLaVA: two; Liu et al. 2024, section 3.3)."""

    layers: int = 2
    activation: Activation = "gelu"
    bias: bool = True
    shuffle: int = 1
    """Side r of the blocks of tokens that become one (SmolVLM)."""
    widen: int = 0
    """How many times as wide as the tokens the first of several maps makes them (OpenVLA: 4); 0 = W at once."""

    def __post_init__(self) -> None:
        for name in ("layers", "shuffle"):
            if getattr(self, name) < 1:
                raise ValueError(f"projector.{name}: expected at least 1, found {getattr(self, name)}")
        if self.widen and self.layers < 2:
            raise ValueError(f"projector.widen: expected several maps, of which the first widens, found {self.layers}")

    def tokens(self, count: int) -> int:
        """How many tokens leave it of so many."""
        return count // self.shuffle**2

    def build(self, source: int, width: int) -> ProjectorNet:
        """The module (..., S, source) -> (..., S / r^2, width)."""
        return ProjectorNet(self, source, width)


class ProjectorNet(nn.Module):
    """(..., S, C) -> (..., S / r^2, W)."""

    def __init__(self, config: Projector, source: int, width: int) -> None:
        super().__init__()
        self.shuffle, self.activation = config.shuffle, ACTIVATIONS[config.activation]
        first = source * config.shuffle**2
        inner = config.widen * source or width
        widths = [first, *(width if i else inner for i in range(config.layers - 1)), width]
        self.maps = nn.ModuleList(Linear(a, b, bias=config.bias) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Raises ValueError for tokens that cannot be shuffled."""
        if self.shuffle > 1:
            x = pixel_shuffled(x, self.shuffle)
        for i, linear in enumerate(self.maps):
            x = linear(self.activation(x) if i else x)
        return x
