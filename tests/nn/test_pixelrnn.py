"""Row LSTM and Diagonal BiLSTM: against loops over pixels and torch's LSTM, and what a pixel reads."""

import pytest
import torch
from tests.nn import rasters
from torch import nn

from nextmove.contracts import ContextSpec
from nextmove.nn.count import count
from nextmove.nn.masked_conv import before, square
from nextmove.nn.pixelrnn import DiagonalLayer, DiagonalLstm, RowLayer, RowLstm, cell, diagonals

ROW = RowLstm(width=3, layers=2, head=4, first=3)
DIAGONAL = DiagonalLstm(width=3, layers=2, head=4, first=3)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def row_by_pixels(layer, x):
    """Each state from the input's row and three states above, pixel by pixel (2016a, section 3.1)."""
    gates, zero = layer.inputs(x), torch.zeros(len(x), 3)
    h, c = {}, {}
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            above = torch.stack([h.get((i - 1, j + d), zero) for d in (-1, 0, 1)], -1)
            total = gates[:, :, i, j] + torch.einsum("bck,dck->bd", above, layer.state)
            h[i, j], c[i, j] = cell(total, c.get((i - 1, j), zero))
    return h


def diagonal_by_pixels(layer, x, direction):
    """Each state from the one beside and the one above; the cell from beside (2016a, section 3.2)."""
    gates, zero = layer.inputs(x).chunk(2, 1)[direction], torch.zeros(len(x), 3)
    step, columns = (1, range(x.shape[3])) if direction == 0 else (-1, range(x.shape[3] - 1, -1, -1))
    h, c = {}, {}
    for i in range(x.shape[2]):
        for j in columns:
            seen = torch.cat([h.get((i, j - step), zero), h.get((i - 1, j), zero)], 1)
            h[i, j], c[i, j] = cell(gates[:, :, i, j] + seen @ layer.state[direction], c.get((i, j - step), zero))
    return h


def image(states, rows, columns):
    return torch.stack([torch.stack([states[i, j] for j in range(columns)], -1) for i in range(rows)], 2)


@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (5, 3), (1, 4), (4, 1)])
def test_layers_are_their_loops_over_pixels(rows, columns):
    x = torch.randn(2, 6, rows, columns)
    row = RowLayer(3, 3, 1)
    torch.testing.assert_close(row.whole(x, keep=False)[0], image(row_by_pixels(row, x), rows, columns))
    layer = DiagonalLayer(3, 1)
    expected = image(diagonal_by_pixels(layer, x, 0), rows, columns)
    left = image(diagonal_by_pixels(layer, x, 1), rows, columns)
    expected[:, :, 1:] += left[:, :, :-1]
    torch.testing.assert_close(layer.whole(x, keep=False)[0], expected)


def torch_lstm(inputs, state, bias):
    """torch's LSTM, whose gates come as input, forget, content, output, with ours: output, forget, input, content."""
    lstm, order = nn.LSTM(6, 3, batch_first=True), [2, 1, 3, 0]
    with torch.no_grad():
        for name, own in (("weight_ih_l0", inputs), ("weight_hh_l0", state), ("bias_ih_l0", bias)):
            getattr(lstm, name).copy_(torch.cat([own.chunk(4)[k] for k in order]))
        lstm.bias_hh_l0.zero_()
    return lstm


def test_along_one_line_they_are_lstms():
    x = torch.randn(2, 6, 7)
    layer = DiagonalLayer(3, 1)
    lstm = torch_lstm(layer.inputs.weight[:12, :, 0, 0], layer.state[0, :3].T, layer.inputs.bias[:12])
    torch.testing.assert_close(layer.whole(x[:, :, None], keep=False)[0][:, :, 0], lstm(x.mT)[0].mT)
    row = RowLayer(3, 3, 1)
    # In one column only the middle of each kernel is on the image.
    lstm = torch_lstm(row.inputs.weight[:, :, 0, 1], row.state[:, :, 1], row.inputs.bias)
    torch.testing.assert_close(row.whole(x[..., None], keep=False)[0][..., 0], lstm(x.mT)[0].mT)


def test_diagonals_by_hand():
    order, spans = diagonals(2, 3)
    assert order.tolist() == [0, 1, 3, 2, 4, 5]  # cells (0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2)
    assert spans == [(0, 1), (0, 2), (0, 2), (1, 1)]


def layer_reads(layer, rows, columns, place):
    """Pixels whose inputs change the state at `place`, in double precision with positive weights."""
    layer = rasters.positive(layer)
    x = torch.ones(1, 6, rows, columns, dtype=torch.float64, requires_grad=True)
    layer.whole(x, keep=False)[0][0, :, place[0], place[1]].sum().backward()
    return {(i, j) for _, i, j in x.grad[0].nonzero().tolist()}


def test_a_row_layer_reads_a_triangle():
    found = layer_reads(RowLayer(3, 3, 1), 7, 13, (5, 6))
    assert found == {(5 - d, j) for d in range(6) for j in range(6 - d - 1, 6 + d + 1) if j >= 0}


def test_a_diagonal_layer_reads_all_before_and_its_own():
    for place in (5, 6), (3, 0), (2, 12), (0, 4):
        assert layer_reads(DiagonalLayer(3, 1), 7, 13, place) == rasters.earlier((7, 13, 1), place) | {place}


def row_net_reads(trunk, grid, place):
    places = {place}
    for _ in range(trunk.layers):
        above, found = places, set()
        while above:
            found |= rasters.moved(above, before(trunk.kernel, "B").offsets, grid)
            above = rasters.moved(above, {(-1, -1), (-1, 0), (-1, 1)}, grid)
        places |= found
    return rasters.moved(places, square(trunk.first, "A").offsets, grid)


@pytest.mark.parametrize("grid", [(4, 6, 1), (3, 4, 3)])
def test_row_lstm_reads_what_masks_and_states_let_through(grid):
    net = rasters.positive(rasters.built(ROW, grid))
    for i in range(grid[0]):
        for j in range(grid[1]):
            expected = row_net_reads(ROW, grid, (i, j))
            assert expected <= rasters.earlier(grid, (i, j))
            rasters.assert_reads_exactly(net, grid, (i, j), expected)


@pytest.mark.parametrize("grid", [(4, 6, 1), (3, 4, 3)])
def test_diagonal_lstm_reads_everything_before_but_one_number(grid):
    net, (rows, columns, colours) = rasters.positive(rasters.built(DIAGONAL, grid)), grid
    for i in range(rows):
        for j in range(columns):
            # To the last number of the row above only the first convolution leads, and only so far.
            near = j + DIAGONAL.first // 2 >= columns - 1
            hidden = set() if near else {(i - 1, columns - 1, colours - 1)}
            rasters.assert_reads_exactly(net, grid, (i, j), rasters.earlier(grid, (i, j)), hidden)


def test_row_lstm_misses_what_is_outside_its_triangle():
    grid, trunk = (4, 14, 1), RowLstm(width=1, layers=1, head=1, first=3)
    found = {(i, j) for i, j, _ in rasters.read(rasters.positive(rasters.built(trunk, grid)), grid, (3, 2))}
    # On the right one column for each row up; the first convolution has to go up to get there, and adds none.
    assert found == {(i, j) for i, j in rasters.earlier(grid, (3, 2)) if j <= 2 + 3 - i}


def test_parameters_by_formula():
    """No paper states a count; these are the weights inside the masks' rows and columns."""
    h, n, head, first = 5, 4, 7, 7
    around = 2 * h * (4 * first + 1) + (2 * h + 1) * head + (head + 1) * 9
    row, diagonal = 4 * h * (2 * h * 2 + 1) + 4 * h * h * 3, 8 * h * (2 * h + 1) + 2 * 2 * h * 4 * h
    for trunk, layer in (RowLstm, row), (DiagonalLstm, diagonal):
        net = trunk(width=h, layers=n, head=head, first=first, grid=(6, 6, 1))
        expected = around + n * (layer + 2 * h * (h + 1))
        assert count(net.build_tokens(length=36, classes=9, context=ContextSpec())) == expected
