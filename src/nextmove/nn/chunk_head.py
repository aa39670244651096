"""A residual head that makes an action of the hidden states of its tokens side by side (OpenVLA-OFT; Kim et al. 2025).

Shapes: B batch, H horizon, W width of what is read, F hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.product import Linear


@dataclass(frozen=True)
class ChunkHead:
    """x = relu(map(norm(h))), then x + relu(map(norm(x))) in each block, then map(norm(x))."""

    hidden: int = 4096
    """F."""
    blocks: int = 2

    def build(self, width: int, out: int) -> ChunkHeadNet:
        """The module (B, H, W) -> (B, H, out)."""
        return ChunkHeadNet(self, width, out)


class ChunkHeadNet(nn.Module):
    """(B, H, W) -> (B, H, out)."""

    def __init__(self, config: ChunkHead, width: int, out: int) -> None:
        super().__init__()
        hidden = config.hidden
        sizes = [(width, hidden), *[(hidden, hidden)] * config.blocks, (hidden, out)]
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size, _ in sizes)
        self.maps = nn.ModuleList(Linear(*size) for size in sizes)

    def forward(self, h: Tensor) -> Tensor:
        """(B, H, out)."""
        x = F.relu(self.maps[0](self.norms[0](h)))
        for norm, linear in zip(self.norms[1:-1], self.maps[1:-1], strict=True):
            x = x + F.relu(linear(norm(x)))
        y: Tensor = self.maps[-1](self.norms[-1](x))
        return y
