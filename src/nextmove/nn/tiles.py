"""Large images as several of the size that a tower reads: the whole, then tiles of it row by row (LLaVA 1.6).

"AnyRes" of Liu et al. 2024b. Shapes: N images, r x c tiles of one, S = s^2 tokens of a tile, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def best_size(height: int, width: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Which of the sizes (height, width) shows most of an image that is fitted into it with its ratio.

    What counts is the area that the image has there, at most its own; of equal ones the size with the least left over.
    Raises ValueError for no sizes.
    """
    if not sizes:
        raise ValueError("sizes: expected at least one, found none")

    def shown(size: tuple[int, int]) -> tuple[int, int]:
        scale = min(size[0] / height, size[1] / width)
        area = min(int(height * scale) * int(width * scale), height * width)
        return area, area - size[0] * size[1]

    return max(sizes, key=shown)


def tiled(images: Tensor, side: int) -> Tensor:
    """(N, 1 + r c, 3, side, side) of images (N, 3, r side, c side): the whole, made smaller, then its tiles.

    Raises ValueError for images that are no whole tiles.
    """
    count, channels, height, width = images.shape
    if height % side or width % side:
        raise ValueError(f"images: expected tiles of {side} x {side}, found {height} x {width}")
    whole = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    rows, columns = height // side, width // side
    tiles = images.reshape(count, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    return torch.cat([whole[:, None], tiles.flatten(1, 2)], 1)


def unpadded(height: int, width: int, rows: int, columns: int) -> tuple[slice, slice]:
    """Rows and columns of a grid of tokens that an image of this size fills, which was padded to the grid's ratio."""
    if width * rows > height * columns:
        kept = int(height * (columns / width))
        first = (rows - kept) // 2
        return slice(first, rows - first), slice(0, columns)
    kept = int(width * (rows / height))
    first = (columns - kept) // 2
    return slice(0, rows), slice(first, columns - first)


class Tiles(nn.Module):
    """Tokens of the whole, then those of all tiles as one grid, with a learned token behind each row."""

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.newline = nn.Parameter(torch.randn(width) / width**0.5)

    def tokens(self, each: int) -> int:
        """How many tokens an image has, of so many a tile."""
        side = round(each**0.5)
        return each + self.rows * side * (self.columns * side + 1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(N, tokens, W) of (N, 1 + r c, S, W); size: height and width of the image before it was padded.

        Raises ValueError for another number of tiles, and for tokens that are no square.
        """
        count, tiles, each, width = x.shape
        side = round(each**0.5)
        if tiles != 1 + self.rows * self.columns or side * side != each:
            expected = 1 + self.rows * self.columns
            raise ValueError(f"x: expected {expected} squares of tokens an image, found {tiles} of {each}")
        grid = x[:, 1:].reshape(count, self.rows, self.columns, side, side, width).transpose(2, 3)
        grid = grid.reshape(count, self.rows * side, self.columns * side, width)
        if size is not None:
            down, across = unpadded(*size, *grid.shape[1:3])
            grid = grid[:, down, across]
        ends = self.newline.to(grid).expand(count, grid.shape[1], 1, -1)
        return torch.cat([x[:, 0], torch.cat([grid, ends], 2).flatten(1, 2)], 1)
