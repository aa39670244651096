"""Networks over images read id by id: the whole image at once, or one pixel from what is kept of the rows before it.

Shapes: B batch, C channels, H rows, W columns, L = H W C ids, K classes. Ids come row by row, pixel by pixel, channel
by channel; a network sees them as numbers in [-1, 1], zeros around the image and where nothing is known yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.flat import check_context
from nextmove.nn.masked_conv import MaskedConv2d, Rows, square
from nextmove.nn.product import Linear
from nextmove.nn.renamed import BEFORE_3, Renames

Grid = tuple[int, int, int]
"""Rows, columns and channels of an image."""


def check_grid(grid: Grid, length: int) -> None:
    """Raises ValueError unless an image of `grid` has `length` ids."""
    if grid[0] * grid[1] * grid[2] != length:
        raise ValueError(f"grid: expected rows x columns x channels = {length} ids, found {grid}")


class Layer(Protocol):
    """A layer whose output at a pixel depends on its inputs at and before that pixel."""

    def whole(self, *inputs: Any, keep: bool) -> tuple[Any, Rows]:
        """Outputs for all rows, and if `keep` what the pixels after the last row's first one need."""
        ...

    def next_row(self, rows: Rows) -> Rows:
        """What is kept, once the last row is complete and the next one begins."""
        ...

    def pixel(self, *inputs: Any, rows: Rows, column: int) -> Any:
        """The output at one pixel of the last row; what is kept of that row is changed in place."""
        ...


class Whole:
    """Runs layers over all rows."""

    def __init__(self, keep: bool) -> None:
        self.keep, self.rows = keep, list[Rows]()

    def __call__(self, layer: Any, *inputs: Any) -> Any:
        """Inputs (B, C, H, W) to outputs (B, C', H, W)."""
        y, rows = layer.whole(*inputs, keep=self.keep)
        self.rows.append(rows)
        return y


class Pixel:
    """Runs layers, in the order in which `Whole` did, at one pixel."""

    def __init__(self, rows: Sequence[Rows], column: int, *, first: bool) -> None:
        self.before, self.column, self.first, self.rows = rows, column, first, list[Rows]()

    def __call__(self, layer: Any, *inputs: Any) -> Any:
        """Inputs (B, C, 1, 1) to outputs (B, C', 1, 1); the first call of a row begins it."""
        rows = self.before[len(self.rows)]
        rows = layer.next_row(rows) if self.first else rows
        self.rows.append(rows)
        return layer.pixel(*inputs, rows=rows, column=self.column)


Run = Whole | Pixel


@dataclass(frozen=True)
class RasterState:
    """The state: ids read so far, numbers (B, C) of the pixel being read (0 where unknown), and each layer's rows.

    The rows are written in place, a pixel at a time: a state belongs to the one sequence of calls that made it, and no
    gradient flows through it.
    """

    count: int
    pixel: Tensor
    rows: tuple[Rows, ...]


class RasterNet(nn.Module):
    """(ids (B, n), ctx, state) -> (logits (B, n, K), state) around `body(image, run, ctx) -> (B, C K, H, W)`.

    `body.stems` are the layers that read the image itself, in the order in which they run, before all others.
    """

    body: Any

    def __init__(self, body: nn.Module, *, grid: Grid, classes: int) -> None:
        super().__init__()
        self.body, self.grid, self.classes = body, grid, classes
        self.length = grid[0] * grid[1] * grid[2]

    def forward(self, ids: Tensor, ctx: Context, state: RasterState | None = None) -> tuple[Tensor, RasterState]:
        """Logits of the id after each; the start symbol K comes first and says nothing.

        With a state each id costs one pixel of work, without one all rows begun so far. Nothing is kept of an image
        that is complete.
        """
        before = 0 if state is None else state.count
        if before + ids.shape[1] > self.length:
            raise ValueError(f"ids: expected at most {self.length} in a sequence, found {before + ids.shape[1]}")
        if state is None:
            return self._whole(ids, ctx)
        parts = []
        for last in ids.unbind(1):
            logits, state = self._next(last, ctx, state)
            parts.append(logits)
        return torch.stack(parts, 1), state

    def image(self, x: Tensor, ctx: Context, run: Run | None = None) -> Tensor:
        """Logits (B, H W C, K) of numbers x (B, C, H, W), each given those before it."""
        y = self.body(x, run or Whole(keep=False), ctx)
        return y.unflatten(1, (self.grid[2], self.classes)).permute(0, 3, 4, 1, 2).flatten(1, 3)

    def _numbers(self, ids: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        return ids.to(dtype) * (2 / max(1, self.classes - 1)) - 1

    def _whole(self, ids: Tensor, ctx: Context) -> tuple[Tensor, RasterState]:
        count, (_, width, channels) = ids.shape[1], self.grid
        place = (count - 1) // channels
        row, column = divmod(place, width)
        missing = (row + 1) * width * channels - (count - 1)
        numbers = F.pad(self._numbers(ids[:, 1:]), (0, missing))
        x = numbers.view(len(ids), row + 1, width, channels).permute(0, 3, 1, 2)
        run = Whole(keep=count < self.length)
        logits = self.image(x, ctx, run)[:, :count]
        return logits, RasterState(count, x[:, :, row, column], tuple(run.rows))

    def _next(self, last: Tensor, ctx: Context, state: RasterState) -> tuple[Tensor, RasterState]:
        """Logits (B, K) of the id after `last` (B,)."""
        _, width, channels = self.grid
        place, channel = divmod(state.count - 1, channels)
        pixel = state.pixel.clone()
        pixel[:, channel] = self._numbers(last)
        if channel == channels - 1:
            for layer, rows in zip(self.body.stems, state.rows, strict=False):
                layer.write(pixel[..., None, None], rows, place % width)
            pixel = torch.zeros_like(pixel)
        place, channel = divmod(state.count, channels)
        run = Pixel(state.rows, place % width, first=channel == 0 and place % width == 0)
        logits = self.image(pixel[..., None, None], ctx, run)[:, channel]
        return logits, RasterState(state.count + 1, pixel, tuple(run.rows))


class Head(nn.Sequential):
    """Two times ReLU and a 1 x 1 convolution, to K logits a colour (van den Oord et al. 2016a, table 1)."""

    def __init__(self, inputs: int, hidden: int, grid: Grid, classes: int) -> None:
        super().__init__(
            nn.ReLU(),
            pointwise(inputs, hidden, grid),
            nn.ReLU(),
            pointwise(hidden, grid[2] * classes, grid),
        )


class Stack(nn.Module):
    """One convolution of kind A to `width` channels, blocks `(x, run) -> x`, and the head.

    The context's vector, if there is one, is added to what the convolution gives.
    """

    RENAMED: ClassVar[dict[int, Renames]] = dict.fromkeys(BEFORE_3, ((r"^told\.", "condition."),))

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        *,
        width: int,
        first: int,
        head: int,
        grid: Grid,
        classes: int,
        condition: int,
    ) -> None:
        super().__init__()
        self.stem = MaskedConv2d(grid[2], width, square(first, "A"), colours=grid[2])
        self.condition = Linear(condition, width, bias=False) if condition else None
        self.blocks = nn.ModuleList(blocks)
        self.head = Head(width, head, grid, classes)

    @property
    def stems(self) -> tuple[MaskedConv2d]:
        """The layers that read the image."""
        return (self.stem,)

    def forward(self, x: Tensor, run: Run, ctx: Context) -> Tensor:
        """(B, C, H, W) -> (B, C K, H, W)."""
        h = run(self.stem, x)
        if self.condition is not None:
            h = h + self.condition(vector(ctx, self.condition.in_features))[..., None, None]
        for block in self.blocks:
            h = block(h, run)
        y: Tensor = self.head(h)
        return y


def pointwise(inputs: int, out: int, grid: Grid, *, chunks: int = 1) -> MaskedConv2d:
    """A 1 x 1 convolution that keeps the order of the colours."""
    return MaskedConv2d(inputs, out, square(1, "B"), colours=grid[2], chunks=chunks)


def vector_width(context: ContextSpec) -> int:
    """Width of the context's vector; raises ValueError for tokens and a memory: a convolution attends to nothing."""
    check_context(context)
    if context.token:
        raise ValueError(f"context.token: expected no tokens, only a vector, found width {context.token}")
    return context.vector


def vector(ctx: Context, width: int) -> Tensor:
    """The context's vector (B, width); raises ValueError if it is not there."""
    if ctx.vector is None or ctx.vector.shape[-1] != width:
        found = "none" if ctx.vector is None else f"width {ctx.vector.shape[-1]}"
        raise ValueError(f"context.vector: expected width {width}, found {found}")
    return ctx.vector
