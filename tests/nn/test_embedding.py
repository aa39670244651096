"""Sinusoids and tables against their formulas, number by number."""

import math

import pytest
import torch

from nextmove.nn.embedding import Times, grid, sinusoid, table


def test_sinusoid_formula():
    values, width = [0.0, 1.0, 37.0, 0.25, 99.0], 8
    found = sinusoid(torch.tensor(values), width)
    for row, value in enumerate(values):
        for i in range(width // 2):
            angle = value * 10000 ** (-i / (width // 2 - 1))
            assert found[row, i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[row, width // 2 + i] == pytest.approx(math.cos(angle), abs=1e-5)


def test_table_formula():
    length, width = 12, 6
    found = table(length, width)
    assert found.dtype == torch.float32
    for p in range(length):
        for j in range(width):
            angle = p / 10000 ** (2 * (j // 2) / width)
            assert found[p, j] == pytest.approx(math.sin(angle) if j % 2 == 0 else math.cos(angle), abs=1e-6)


def test_times_are_embedded_apart_and_added():
    torch.manual_seed(0)
    times, t = Times(2, 8), torch.tensor([[3.0, 5.0], [70.0, 0.5]])
    alone = [net(sinusoid(t[:, i], 8)) for i, net in enumerate(times.nets)]
    torch.testing.assert_close(times(t), alone[0] + alone[1])
    assert (times(t) - times(t.flip(1))).abs().max() > 1e-3


def test_times_are_read_exactly_as_given():
    """Half precision would merge neighbouring indices; the sinusoid is computed in float32."""
    near = torch.tensor([999.0, 998.0])
    assert torch.equal(sinusoid(near.double(), 8), sinusoid(near, 8))
    assert (sinusoid(near, 8)[0] - sinusoid(near, 8)[1]).abs().max() > 0.5


def test_another_number_of_times_is_an_error():
    with pytest.raises(ValueError, match=r"t: expected \(B, 1\), found \(4, 2\)"):
        Times(1, 8)(torch.zeros(4, 2))


def test_grid_equals_its_equation():
    rows, columns, width = 2, 3, 8
    found, half = grid(rows, columns, width), width // 2
    assert found.shape == (rows * columns, width)
    for y in range(rows):
        for x in range(columns):
            for j in range(half):
                wave = math.sin if j % 2 == 0 else math.cos
                scale = 10000 ** (2 * (j // 2) / half)
                cell = found[y * columns + x]
                turn = 2 * math.pi / scale
                assert cell[j].item() == pytest.approx(wave((y + 1) / (rows + 1e-6) * turn), abs=1e-6)
                assert cell[half + j].item() == pytest.approx(wave((x + 1) / (columns + 1e-6) * turn), abs=1e-6)
    with pytest.raises(ValueError, match="width: expected a multiple of 4"):
        grid(2, 2, 6)


def test_widths_without_sinusoids_are_named():
    for width in (2, 7):
        with pytest.raises(
            ValueError, match=f"width: expected an even width of at least 4 for the times, found {width}"
        ):
            Times(1, width)
