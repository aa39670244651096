"""Learned positions of an image's patches: a square table, read for grids of other sizes too.

Shapes: B batch, P patches row by row, W width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Resize = Literal["none", "bicubic", "antialias", "buckets"]
"""How a table serves a grid of another size: not at all; interpolated as a picture, without or with antialiasing
(DINOv2, Oquab et al. 2023, and its version with registers, Darcet et al. 2023); or by the place that is as far along
each side (Idefics3, Laurençon et al. 2024)."""


class Places(nn.Module):
    """A table (side^2, W), and in front of it a row for the class token where there is one.

    Raises ValueError for an unknown rule.
    """

    def __init__(self, side: int, width: int, resize: Resize = "none", *, first: int = 0) -> None:
        super().__init__()
        if resize not in ("none", "bicubic", "antialias", "buckets"):
            raise ValueError(f"resize: expected none, bicubic, antialias or buckets, found {resize!r}")
        self.side, self.resize, self.first = side, resize, first
        self.table = nn.Parameter(0.02 * torch.randn(first + side * side, width))

    def front(self) -> Tensor:
        """(first, W)."""
        return self.table[: self.first]

    def forward(self, rows: int, columns: int, valid: Tensor | None = None) -> Tensor:
        """(P, W) of a grid, or (B, P, W) by `valid` (B, rows, columns), which marks each image's own patches.

        An image's own patches fill its upper left corner; only "buckets" counts them. Raises ValueError for a grid of
        another size than the table's where it has no rule for one.
        """
        table = self.table[self.first :]
        if self.resize == "buckets":
            return table[self._buckets(rows, columns, valid)]
        if (rows, columns) == (self.side, self.side):
            return table
        if self.resize == "none":
            raise ValueError(
                f"images: expected {self.side} x {self.side} patches, found {rows} x {columns}; a tower with "
                "resize='bicubic' reads other sizes"
            )
        square = table.float().mT.reshape(1, -1, self.side, self.side)
        antialias = self.resize == "antialias"
        other = F.interpolate(square, (rows, columns), mode="bicubic", align_corners=False, antialias=antialias)
        return other[0].flatten(1).mT.to(table)

    def _buckets(self, rows: int, columns: int, valid: Tensor | None) -> Tensor:
        """Rows of the table, (P,) or (B, P)."""
        device = self.table.device
        if valid is None:
            valid = torch.ones(1, rows, columns, dtype=torch.bool, device=device)
        edges = torch.arange(1 / self.side, 1.0, 1 / self.side, device=device)

        def along(counts: Tensor, length: int) -> Tensor:
            share = torch.arange(length, dtype=torch.float32, device=device) * (1 / counts)[:, None]
            return torch.bucketize(share.clamp(max=1 - 1e-6), edges, right=True)

        down, across = along(valid[:, :, 0].sum(1), rows), along(valid[:, 0].sum(1), columns)
        places = (down[:, :, None] * self.side + across[:, None]) * valid
        return places.flatten(1) if len(places) > 1 else places[0].flatten()


def patch_mask(valid: Tensor, patch: int) -> Tensor:
    """(B, rows, columns) bool of pixels `valid` (B, height, width): the patches that hold one of them.

    What is left of a side by patches of `patch` pixels is left out.
    """
    rows, columns = valid.shape[1] // patch, valid.shape[2] // patch
    whole = valid[:, : rows * patch, : columns * patch].bool()
    return whole.reshape(-1, rows, patch, columns, patch).any(4).any(2)
