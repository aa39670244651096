"""A vision transformer over square patches of an image (Dosovitskiy et al. 2021), read as feature maps.

Shapes: B batch, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.block import Block
from nextmove.nn.embedding import cells
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.stream import Stream


class VitNetwork(nn.Module):
    """(B, 3, height, width) -> (B, W, height / patch, width / patch), rounded up: missing pixels are zeros.

    Positions are fixed sinusoids (`nn.embedding.cells`), so that images may have any size.
    """

    def __init__(self, config: Vit, channels: int) -> None:
        super().__init__()
        self.patch, self.out = config.patch, config.width
        self.embed = nn.Conv2d(channels, config.width, config.patch, config.patch)
        self.stream = Stream([config.block] * config.layers, norm=LayerNorm())

    def forward(self, x: Tensor) -> Tensor:
        """What the last block knows of each patch."""
        height, width = x.shape[-2:]
        maps = self.embed(F.pad(x, (0, -width % self.patch, 0, -height % self.patch)))
        rows, columns = maps.shape[-2:]
        tokens = maps.flatten(2).mT + cells(rows, columns, self.out).to(maps)
        tokens, _ = self.stream(tokens, remember=False)
        return tokens.mT.unflatten(-1, (rows, columns))


@dataclass(frozen=True)
class Vit:
    """Sizes of a vision transformer."""

    patch: int = 12
    """Pixels of a patch's side: 7 x 7 patches of the 84 px that are cropped from 96; 16 suits 128 to 224 px."""
    width: int = 192
    layers: int = 6
    heads: int = 3
    dropout: float = 0.0

    @property
    def block(self) -> Block:
        """One of its blocks."""
        part, p = DenseMlp(activation="gelu"), self.dropout
        return Block(self.width, self.heads, part, dropout=p, attention_dropout=p, hidden_dropout=p)

    @property
    def stride(self) -> int:
        """Pixels that one value of the last feature maps stands for, along each side."""
        return self.patch

    @property
    def out(self) -> int:
        """Channels of the feature maps."""
        return self.width

    def build(self, channels: int = 3) -> VitNetwork:
        """The network without a classifier."""
        return VitNetwork(self, channels)
