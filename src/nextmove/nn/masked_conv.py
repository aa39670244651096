"""Masked convolutions: an image read in raster order, nothing of a pixel seen before it is due.

Shapes: B batch, C channels, W width of the image. An image is (B, C, height, W); each pixel's colours come in order,
and the channels of every layer are cut into as many groups, one a colour: group c knows of its own pixel the colours
before c (kind A, which reads the image itself), or also what layers made for colour c (kind B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rows = tuple[Tensor, ...]
"""What a layer keeps of the rows so far for the pixels to come."""


@dataclass(frozen=True)
class Window:
    """The pixels an output reads: `up` rows above, `left` columns before its own to `right` after, and its own row.

    row: A or B, the pixels before it and itself by that kind; "nothing"; or "everything" from left to right.
    """

    up: int
    left: int
    right: int
    row: Literal["A", "B", "nothing", "everything"]

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.up + 1, self.left + 1 + self.right

    @property
    def offsets(self) -> frozenset[tuple[int, int]]:
        """The pixels read, as (rows, columns) from the output's; its own only if all of it is read."""
        rows, columns = range(-self.up, 0), range(-self.left, self.right + 1)
        last = {"A": range(-self.left, 0), "B": range(-self.left, 1), "nothing": range(0), "everything": columns}
        return frozenset((y, x) for y in rows for x in columns) | {(0, x) for x in last[self.row]}


def square(kernel: int, kind: Literal["A", "B"]) -> Window:
    """All earlier pixels of an odd square kernel (van den Oord et al. 2016a, section 3.4)."""
    half = _half(kernel)
    return Window(half, half, half, kind)


def before(kernel: int, kind: Literal["A", "B"]) -> Window:
    """The earlier pixels of the same row: the horizontal stack's, and what Row LSTM reads."""
    return Window(0, _half(kernel), 0, kind)


def above(kernel: int, *, first: bool) -> Window:
    """Rows strictly above, at once in the first layer of a vertical stack and through it in the others."""
    half = _half(kernel)
    return Window(half + first, half, half, "nothing" if first else "everything")


def _half(kernel: int) -> int:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of pixels, found {kernel}")
    return kernel // 2


def groups(channels: int, colours: int, chunks: int = 1) -> Tensor:
    """The colour (channels,) of each channel: `chunks` equal parts in a row (gates), each cut into `colours`."""
    part = channels // chunks
    if channels % chunks or part < colours:
        raise ValueError(f"channels: expected {chunks} parts of at least {colours} channels, found {channels}")
    return (torch.arange(part) * colours // part).repeat(chunks)


class MaskedConv2d(nn.Module):
    """(B, C, height, W) -> (B, C', height, W); the weights outside the window and of later colours do not count.

    Only the rows and columns of the window are stored. chunks: gates among the outputs, each with all colours.
    """

    mask: Tensor

    def __init__(self, inputs: int, out: int, window: Window, *, colours: int = 1, chunks: int = 1) -> None:
        super().__init__()
        self.window = window
        mask = torch.ones(out, inputs, *window.kernel)
        mask[:, :, -1] = float(window.row == "everything")
        if window.row in ("A", "B"):
            mask[:, :, -1, : window.left] = 1
            given, asked = groups(inputs, colours), groups(out, colours, chunks)[:, None]
            mask[:, :, -1, window.left] = (given < asked if window.row == "A" else given <= asked).float()
        self.register_buffer("mask", mask, persistent=False)
        # Uniform within 1 / sqrt(inputs), as nn.Conv2d's, of those that count.
        bound = mask.sum((1, 2, 3)).clamp_min(1).rsqrt()
        self.weight = nn.Parameter((torch.rand_like(mask) * 2 - 1) * bound[:, None, None, None])
        self.bias = nn.Parameter((torch.rand_like(bound) * 2 - 1) * bound)

    @property
    def kernel(self) -> Tensor:
        """The weights (C', C, rows, columns), those that do not count as zeros."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """The whole image, zeros around it."""
        w = self.window
        if w.kernel == x.shape[2:] == (1, 1):
            # One pixel at a time a product is several times faster than a convolution.
            return F.linear(x.flatten(1), self.kernel.flatten(1), self.bias)[..., None, None]
        return F.conv2d(F.pad(x, (w.left, w.right, w.up, 0)), self.kernel, self.bias)

    def whole(self, x: Tensor, *, keep: bool) -> tuple[Tensor, Rows]:
        """`forward`, and if `keep` the rows (B, C, up + 1, left + W + right) that end with x's last."""
        w, last = self.window, x[:, :, -(self.window.up + 1) :]
        if not keep:
            return self(x), ()
        return self(x), (F.pad(last, (w.left, w.right, w.up + 1 - last.shape[2], 0)).clone(),)

    def next_row(self, rows: Rows) -> Rows:
        """The rows for the row below, of which nothing is known yet."""
        return tuple(moved_up(row) for row in rows)

    def write(self, x: Tensor, rows: Rows, column: int) -> None:
        """Puts x (B, C, 1, n) into the last row, from `column` on."""
        for row in rows:
            start = column + self.window.left
            row[:, :, -1:, start : start + x.shape[3]] = x

    def read(self, rows: Rows, column: int, count: int = 1) -> Tensor:
        """Outputs (B, C', 1, count) of the last row, from `column` on."""
        columns = self.window.kernel[1]
        seen, weight = rows[0][..., column : column + count + columns - 1], self.kernel
        if count > 1:
            return F.conv2d(seen, weight, self.bias)
        return F.linear(seen.flatten(1), weight.flatten(1), self.bias)[..., None, None]

    def pixel(self, x: Tensor, *, rows: Rows, column: int) -> Tensor:
        """The output (B, C', 1, 1) at `column` of the last row, where the input is x (B, C, 1, 1)."""
        self.write(x, rows, column)
        return self.read(rows, column)


def moved_up(row: Tensor) -> Tensor:
    """Rows (B, C, n, W) moved up by one, the last one empty."""
    return F.pad(row[:, :, 1:], (0, 0, 0, 1))
