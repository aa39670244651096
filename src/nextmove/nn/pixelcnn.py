"""PixelCNN and Gated PixelCNN: stacks of masked convolutions.

Shapes: B batch, C channels, H rows, W columns, K classes, D width of the context's vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.dropout import Dropout
from nextmove.nn.masked_conv import MaskedConv2d, Rows, above, before, square
from nextmove.nn.product import Linear
from nextmove.nn.raster import Grid, Head, RasterNet, Run, Stack, check_grid, pointwise, vector, vector_width
from nextmove.nn.renamed import BEFORE_3, Renames


@dataclass(frozen=True)
class MaskedCnn:
    """PixelCNN (van den Oord et al. 2016a, sections 3.3 to 3.5); blind to some earlier pixels on the right."""

    width: int = 64
    """h: the residual stream has 2 h channels, its blocks h inside."""
    layers: int = 7
    """MaskedResidualBlock blocks after the first convolution."""
    kernel: int = 3
    first: int = 7
    """Kernel of the first convolution, the only one of kind A."""
    head: int = 64
    """Channels between the last two convolutions."""
    dropout: float = 0.0
    grid: Grid = (0, 0, 0)
    """Rows, columns and channels of the images; a recipe sets it."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> RasterNet:
        """The network of ids in raster order; raises ValueError unless `length` is the grid's."""
        check_grid(self.grid, length)
        body = Stack(
            [MaskedResidualBlock(self) for _ in range(self.layers)],
            width=2 * self.width,
            first=self.first,
            head=self.head,
            grid=self.grid,
            classes=classes,
            condition=vector_width(context),
        )
        return RasterNet(body, grid=self.grid, classes=classes)


class MaskedResidualBlock(nn.Module):
    """x + 1 x 1 (k x k (1 x 1 (x))), h channels inside, a ReLU before each (2016a, figure 5)."""

    def __init__(self, c: MaskedCnn) -> None:
        super().__init__()
        self.down = pointwise(2 * c.width, c.width, c.grid)
        self.conv = MaskedConv2d(c.width, c.width, square(c.kernel, "B"), colours=c.grid[2])
        self.up = pointwise(c.width, 2 * c.width, c.grid)
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        """(B, 2 h, H, W) -> the same."""
        y = run(self.conv, self.down(x.relu()).relu())
        return x + self.up(self.dropout(y.relu()))


@dataclass(frozen=True)
class GatedCnn:
    """Gated PixelCNN (van den Oord et al. 2016b): a vertical and a horizontal stack, without a blind spot."""

    width: int = 64
    """p: channels of each stack."""
    layers: int = 8
    """Gated layers, the first included."""
    kernel: int = 3
    first: int = 7
    """Kernel of the first layer, the only one of kind A."""
    head: int = 64
    """Channels between the last two convolutions."""
    dropout: float = 0.0
    grid: Grid = (0, 0, 0)
    """Rows, columns and channels of the images; a recipe sets it."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> RasterNet:
        """The network of ids in raster order; raises ValueError unless `length` is the grid's."""
        check_grid(self.grid, length)
        body = GatedBody(self, classes, vector_width(context))
        return RasterNet(body, grid=self.grid, classes=classes)


def gate(x: Tensor) -> Tensor:
    """tanh(f) sigmoid(g), the halves of x (B, 2 p, ...) (2016b, equation 2)."""
    f, g = x.chunk(2, 1)
    return f.tanh() * g.sigmoid()


class VerticalStack(nn.Module):
    """All that the horizontal stack reads of the rows strictly above, and of the vector: (B, 2 p, H, W) a layer.

    A row of it depends on no pixel of that row, so it is computed as a whole when the row begins. What is kept: the
    rows each convolution reads, what the vector says to each, and this row of each output.
    """

    convs: Any

    RENAMED: ClassVar[dict[int, Renames]] = dict.fromkeys(BEFORE_3, ((r"^told\.", "condition."),))

    def __init__(self, c: GatedCnn, condition: int) -> None:
        super().__init__()
        p, self.layers, self.columns = c.width, c.layers, c.grid[1]
        self.convs = nn.ModuleList(
            MaskedConv2d(p if i else c.grid[2], 2 * p, above(c.kernel if i else c.first, first=not i), chunks=2)
            for i in range(c.layers)
        )
        self.across = nn.ModuleList(nn.Conv2d(2 * p, 2 * p, 1) for _ in range(c.layers))
        self.dropout = Dropout(c.dropout)
        self.condition = Linear(condition, 4 * p * c.layers, bias=False) if condition else None

    def whole(self, x: Tensor, ctx: Context, *, keep: bool) -> tuple[list[Tensor], Rows]:
        """Images (B, C, H, W)."""
        condition = self._condition(ctx)
        windows: list[Tensor] = []

        def convolve(layer: int, h: Tensor) -> Tensor:
            y, rows = self.convs[layer].whole(h, keep=keep)
            windows.extend(rows)
            return y

        out = self._run(x, convolve, condition)
        return out, (*windows, *condition, *(y[:, :, -1:].clone() for y in out)) if keep else ()

    def next_row(self, rows: Rows) -> Rows:
        """Reads the row that is complete."""
        windows = [conv.next_row((row,)) for conv, row in zip(self.convs, rows, strict=False)]

        def convolve(layer: int, h: Tensor | None) -> Tensor:
            conv = self.convs[layer]
            if h is not None:
                conv.write(h, windows[layer], 0)
            return conv.read(windows[layer], 0, self.columns)

        condition = rows[self.layers : -self.layers]
        return (*(row for (row,) in windows), *condition, *self._run(None, convolve, condition))

    def write(self, x: Tensor, rows: Rows, column: int) -> None:
        """Notes a pixel (B, C, 1, 1) of the last row, for the rows below."""
        self.convs[0].write(x, rows[:1], column)

    def pixel(self, x: Tensor, ctx: Context, *, rows: Rows, column: int) -> list[Tensor]:
        """The condition at one pixel, (B, 2 p, 1, 1) a layer."""
        return [row[..., column : column + 1] for row in rows[-self.layers :]]

    def _run(self, x: Any, convolve: Callable[[int, Any], Tensor], condition: Rows) -> list[Tensor]:
        out, h = [], x
        for i, across in enumerate(self.across):
            y = convolve(i, h)
            y = y + condition[2 * i] if condition else y
            # From before the gate, as published; what follows the last layer would not be read.
            out.append(across(y) + condition[2 * i + 1] if condition else across(y))
            h = self.dropout(gate(y)) if i < self.layers - 1 else h
        return out

    def _condition(self, ctx: Context) -> Rows:
        """What the vector adds (B, 2 p, 1, 1), to the vertical and to the horizontal half of each layer in turn."""
        if self.condition is None:
            return ()
        return self.condition(vector(ctx, self.condition.in_features))[..., None, None].chunk(2 * self.layers, 1)


class GatedBody(nn.Module):
    """Horizontal layers, each conditioned by the vertical stack; residual except in the first (2016b, figure 2)."""

    def __init__(self, c: GatedCnn, classes: int, condition: int) -> None:
        super().__init__()
        p, colours = c.width, c.grid[2]
        self.vertical = VerticalStack(c, condition)
        self.convs = nn.ModuleList(
            MaskedConv2d(
                p if i else colours,
                2 * p,
                before(c.kernel if i else c.first, "B" if i else "A"),
                colours=colours,
                chunks=2,
            )
            for i in range(c.layers)
        )
        self.mix = nn.ModuleList(pointwise(p, p, c.grid) for _ in range(c.layers))
        self.dropout = Dropout(c.dropout)
        self.head = Head(p, c.head, c.grid, classes)

    @property
    def stems(self) -> tuple[nn.Module, nn.Module]:
        """The layers that read the image."""
        return self.vertical, self.convs[0]

    def forward(self, x: Tensor, run: Run, ctx: Context) -> Tensor:
        """(B, C, H, W) -> (B, C K, H, W)."""
        vertical = run(self.vertical, x, ctx)
        h = self._layer(0, x, vertical, run)
        for i in range(1, len(self.convs)):
            h = h + self._layer(i, h, vertical, run)
        y: Tensor = self.head(h)
        return y

    def _layer(self, i: int, h: Tensor, vertical: list[Tensor], run: Run) -> Tensor:
        y: Tensor = self.mix[i](self.dropout(gate(run(self.convs[i], h) + vertical[i])))
        return y
