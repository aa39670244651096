"""PixelRNN: LSTM layers that read an image row by row or diagonal by diagonal (van den Oord et al. 2016a).

Shapes: B batch, C channels, H rows, W columns, K classes, h width of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import ContextSpec
from nextmove.nn.conv import unfolded
from nextmove.nn.dropout import Dropout
from nextmove.nn.masked_conv import MaskedConv2d, Rows, before, moved_up, square
from nextmove.nn.raster import Grid, RasterNet, Run, Stack, check_grid, pointwise, vector_width


@dataclass(frozen=True)
class RowLstm:
    """PixelRNN of Row LSTM layers: a pixel reads the triangle above it (section 3.1)."""

    width: int = 64
    """h: the residual stream has 2 h channels, each layer's state h."""
    layers: int = 7
    kernel: int = 3
    """Columns of the convolutions from the input and from the state above."""
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
        layers = [RowLayer(self.width, self.kernel, self.grid[2]) for _ in range(self.layers)]
        return recurrent(self, layers, classes, context)


@dataclass(frozen=True)
class DiagonalLstm:
    """PixelRNN of Diagonal BiLSTM layers: a pixel reads all before it (section 3.2).

    With one exception, as published: the last number of the row above, where it lies beyond the first convolution. The
    states from the right begin at its pixel's features, and mask A keeps the number itself out of them.
    """

    width: int = 64
    """h: the residual stream has 2 h channels, each layer's states h."""
    layers: int = 7
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
        layers = [DiagonalLayer(self.width, self.grid[2]) for _ in range(self.layers)]
        return recurrent(self, layers, classes, context)


def recurrent(c: RowLstm | DiagonalLstm, layers: Sequence[nn.Module], classes: int, context: ContextSpec) -> RasterNet:
    """The network of these layers, each with its way past."""
    body = Stack(
        [Recurrent(layer, c) for layer in layers],
        width=2 * c.width,
        first=c.first,
        head=c.head,
        grid=c.grid,
        classes=classes,
        condition=vector_width(context),
    )
    return RasterNet(body, grid=c.grid, classes=classes)


class Recurrent(nn.Module):
    """x + 1 x 1 (LSTM (x)), from 2 h to h channels and back (figure 5)."""

    def __init__(self, layer: nn.Module, c: RowLstm | DiagonalLstm) -> None:
        super().__init__()
        self.layer, self.dropout = layer, Dropout(c.dropout)
        self.up = pointwise(c.width, 2 * c.width, c.grid)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        """(B, 2 h, H, W) -> the same."""
        return x + self.up(self.dropout(run(self.layer, x)))


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next state and cell from gates (..., 4 h), in the order output, forget, input, content (equation 3)."""
    o, f, i, g = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class RowLayer(nn.Module):
    """Each row's states from the input's row and the states of the row above: (B, 2 h, H, W) -> (B, h, H, W).

    What is kept: the input's last row, and the states and cells of the row above and of the last row.
    """

    def __init__(self, width: int, kernel: int, colours: int) -> None:
        super().__init__()
        self.inputs = MaskedConv2d(2 * width, 4 * width, before(kernel, "B"), colours=colours, chunks=4)
        self.state = nn.Parameter(torch.empty(4 * width, width, kernel).uniform_(-1, 1) * (kernel * width) ** -0.5)

    def whole(self, x: Tensor, *, keep: bool) -> tuple[Tensor, Rows]:
        """All rows from the top."""
        gates, rows = self.inputs.whole(x, keep=keep)
        h = c = x.new_zeros(len(x), x.shape[3], self.state.shape[1])
        states, cells = [h], [c]
        for row in gates.permute(2, 0, 3, 1):
            above = unfolded(h.mT, self.state, None, 1, self.state.shape[2] // 2).mT
            h, c = cell(row + above, c)
            states.append(h)
            cells.append(c)
        y = torch.stack(states[1:], 1).permute(0, 3, 1, 2)
        if not keep:
            return y, ()
        half = self.state.shape[2] // 2
        kept = [torch.stack(part[-2:], 1).permute(0, 3, 1, 2) for part in (states, cells)]
        return y, (*rows, F.pad(kept[0], (half, half)), kept[1].clone())

    def next_row(self, rows: Rows) -> Rows:
        """The last row becomes the row above."""
        return tuple(moved_up(row) for row in rows)

    def pixel(self, x: Tensor, *, rows: Rows, column: int) -> Tensor:
        """The state (B, h, 1, 1) at one pixel of the last row."""
        window, states, cells = rows
        gates = self.inputs.pixel(x, rows=(window,), column=column)[..., 0, 0]
        kernel = self.state.shape[2]
        above = states[:, :, 0, column : column + kernel].flatten(1)
        h, c = cell(gates + F.linear(above, self.state.flatten(1)), cells[:, :, 0, column])
        states[:, :, 1, column + kernel // 2], cells[:, :, 1, column] = h, c
        return h[..., None, None]


def diagonals(rows: int, columns: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """The cells of an image, counted row by row, diagonal by diagonal (each from the top), and what each has.

    Diagonal d holds the cells (i, d - i); it is given by its first row and its number of cells.
    """
    number = (torch.arange(rows)[:, None] + torch.arange(columns)).flatten()
    sizes = number.bincount().tolist()
    return number.argsort(stable=True), [(max(0, d - columns + 1), size) for d, size in enumerate(sizes)]


class DiagonalLayer(nn.Module):
    """States from those on the left and above, plus those from the right and above, moved down by one row.

    (B, 2 h, H, W) -> (B, h, H, W). The second direction runs to the left, and would tell a pixel of those after it in
    its own row; one row further down all of it is past. What is kept: the input's last row; of the first direction the
    states of the row above and the last row, and the last row's cells; of the second the states of the row above.
    """

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.inputs = MaskedConv2d(2 * width, 8 * width, square(1, "B"), colours=colours, chunks=8)
        # From the states beside and above, for each direction.
        self.state = nn.Parameter(torch.empty(2, 2 * width, 4 * width).uniform_(-1, 1) * (2 * width) ** -0.5)

    def whole(self, x: Tensor, *, keep: bool) -> tuple[Tensor, Rows]:
        """All rows, a diagonal of both directions at a time; in place of a skewed image its cells are reordered."""
        batch, _, rows, columns = x.shape
        order, spans = diagonals(rows, columns)
        mirrored = torch.arange(rows * columns).view(rows, columns).flip(1).flatten()[order]
        both = torch.stack([order, mirrored]).to(x.device)
        states, cells = self._scan(x.permute(2, 3, 0, 1).flatten(0, 1)[both], spans)

        def image(part: Tensor, direction: int) -> Tensor:
            back = part[direction].index_select(0, both[direction].argsort())
            return back.view(rows, columns, batch, -1).permute(2, 3, 0, 1)

        right = image(states, 0)
        down = F.pad(image(states, 1), (0, 0, 1, 0))[:, :, :-1]
        if not keep:
            return right + down, ()
        above, own = F.pad(right, (1, 0, 1, 0))[:, :, -2:], F.pad(image(cells, 0)[:, :, -1:], (1, 0))
        return right + down, (x[:, :, -1:].clone(), above.clone(), own, down[:, :, -1:].clone())

    def _scan(self, x: Tensor, spans: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """States and cells (2, H W, B, h) of inputs (2, H W, B, 2 h), both diagonal by diagonal."""
        weight, bias = self.inputs.kernel.view(2, -1, x.shape[3]), self.inputs.bias
        gates = torch.baddbmm(bias.view(2, 1, -1), x.flatten(1, 2), weight.mT).view(*x.shape[:3], -1)
        beside, above = self.state.chunk(2, 1)
        # The last diagonal's states and cells, with zeros for the cells outside the image at either end.
        h = c = gates.new_zeros(2, 2, x.shape[2], x.shape[3] // 2)
        states, cells, top = [], [], 0
        for (first, size), now in zip(spans, torch.split(gates, [size for _, size in spans], 1), strict=True):
            start = first - top
            seen = h[:, start + 1 : start + 1 + size].flatten(1, 2), h[:, start : start + size].flatten(1, 2)
            total = torch.baddbmm(torch.baddbmm(now.flatten(1, 2), seen[0], beside), seen[1], above)
            h, c = cell(total.view_as(now), c[:, start + 1 : start + 1 + size])
            states.append(h)
            cells.append(c)
            h, c, top = F.pad(h, (0, 0, 0, 0, 1, 1)), F.pad(c, (0, 0, 0, 0, 1, 1)), first
        return torch.cat(states, 1), torch.cat(cells, 1)

    def next_row(self, rows: Rows) -> Rows:
        """Reads the row that is complete from right to left."""
        x, states, cells, above = rows
        gates = self.inputs(x).chunk(2, 1)[1][:, :, 0]
        h = c = torch.zeros_like(above[:, :, 0, 0])
        out = []
        for column in reversed(range(gates.shape[2])):
            seen = torch.cat([h, above[:, :, 0, column]], 1)
            h, c = cell(gates[..., column] + seen @ self.state[1], c)
            out.append(h)
        down = torch.stack(out[::-1], -1)[:, :, None]
        return torch.zeros_like(x), moved_up(states), torch.zeros_like(cells), down

    def pixel(self, x: Tensor, *, rows: Rows, column: int) -> Tensor:
        """The sum of both directions (B, h, 1, 1) at one pixel of the last row."""
        inputs, states, cells, above = rows
        inputs[..., column : column + 1] = x
        gates = self.inputs(x).chunk(2, 1)[0][..., 0, 0]
        # States and cells begin with the zeros left of the image.
        seen = torch.cat([states[:, :, 1, column], states[:, :, 0, column + 1]], 1)
        h, c = cell(gates + seen @ self.state[0], cells[:, :, 0, column])
        states[:, :, 1, column + 1], cells[:, :, 0, column + 1] = h, c
        return (h + above[:, :, 0, column])[..., None, None]
