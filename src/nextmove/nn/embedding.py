"""Numbers as vectors: sinusoids of a network's times, and tables of positions.

Shapes: B batch, W width, L length, D width of a position.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from nextmove.nn.mish import Mish
from nextmove.nn.product import Linear


def sinusoid(value: Tensor, width: int, span: float = 10000.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B,) numbers as (B, width): sines, then cosines, frequencies 1 to 1 / span (Vaswani et al. 2017, in halves).

    dtype: of angles; in float32 one of a thousand rad is 1e-4 off.
    """
    half = width // 2
    steps = torch.arange(half, device=value.device, dtype=dtype)
    angle = value.to(dtype)[:, None] * torch.exp(steps * (-math.log(span) / (half - 1)))
    return torch.cat([angle.sin(), angle.cos()], -1)


def table(length: int, width: int) -> Tensor:
    """(length, width) position table: sine at even columns, cosine at odd (Vaswani et al. 2017, equation in 3.5)."""
    column = torch.arange(width)
    angle = torch.arange(length)[:, None] / 10000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


def grid(rows: int, columns: int, width: int) -> Tensor:
    """(rows columns, width) positions of an image's cells, row by row: `width` / 2 for the row, then for the column.

    Cells are counted from 1 and scaled to end at 2 pi; sine at even columns, cosine at odd (Carion et al. 2020, in
    the form of ACT). Raises ValueError unless 4 divides `width`.
    """
    if width % 4:
        raise ValueError(f"width: expected a multiple of 4 for positions in two dimensions, found {width}")
    column = torch.arange(width // 2)
    scale = 10000 ** (2 * (column // 2) / (width // 2))

    def along(cells: int) -> Tensor:
        place = torch.arange(1, cells + 1) / (cells + 1e-6) * (2 * math.pi)
        angle = place[:, None] / scale
        return torch.where(column % 2 == 0, angle.sin(), angle.cos())

    y = along(rows)[:, None].expand(-1, columns, -1)
    x = along(columns)[None].expand(rows, -1, -1)
    return torch.cat([y, x], -1).flatten(0, 1)


def cells(rows: int, columns: int, width: int) -> Tensor:
    """(rows columns, width) positions of an image's cells, row by row: `width` / 2 for the column, then for the row.

    Cells are counted from 0; sines, then cosines, of width / 4 frequencies 10000^(-4 k / width) (MAE, He et al. 2022;
    DiT, Peebles & Xie 2023). Raises ValueError unless 4 divides `width`.
    """
    if width % 4:
        raise ValueError(f"width: expected a multiple of 4 for positions in two dimensions, found {width}")
    frequency = 10000 ** (-torch.arange(width // 4) / (width // 4))

    def along(count: int) -> Tensor:
        angle = torch.arange(count)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], -1)

    x = along(columns)[None].expand(rows, -1, -1)
    y = along(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], -1).flatten(0, 1)


class Times(nn.Module):
    """(B, count) times -> (B, out); each has its own sinusoid and two-layer network, the results are added."""

    def __init__(
        self,
        count: int,
        width: int,
        hidden: int | None = None,
        out: int | None = None,
        activation: Literal["mish", "silu"] = "mish",
    ) -> None:
        super().__init__()
        if width < 4 or width % 2:
            raise ValueError(f"width: expected an even width of at least 4 for the times, found {width}")
        self.width = width
        hidden, out = hidden or 4 * width, out or width
        act = Mish if activation == "mish" else nn.SiLU
        self.nets = nn.ModuleList(
            nn.Sequential(Linear(width, hidden), act(), Linear(hidden, out)) for _ in range(count)
        )

    def forward(self, t: Tensor | None) -> Tensor:
        """The sum over the times."""
        if t is None:
            raise ValueError("t: expected the times the network was built for, found none")
        if t.dim() != 2 or t.shape[1] != len(self.nets):
            raise ValueError(f"t: expected (B, {len(self.nets)}), found {tuple(t.shape)}")
        dtype = next(self.parameters()).dtype
        parts = [net(sinusoid(t[:, i], self.width).to(dtype)) for i, net in enumerate(self.nets)]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
