"""Masked convolutions: what each window and colour reads, by gradient, and the same outputs pixel by pixel."""

import pytest
import torch
from torch.nn import functional as F

from nextmove.nn.masked_conv import MaskedConv2d, above, before, groups, square

WINDOWS = [
    square(1, "B"), square(3, "A"), square(3, "B"), square(5, "A"), before(5, "A"), before(3, "B"),
    above(3, first=True), above(3, first=False),
]  # fmt: skip


def built(window, inputs=6, out=6, **options):
    torch.manual_seed(0)
    return MaskedConv2d(inputs, out, window, **options)


def seen(conv, inputs, out_channels, size=7):
    """{(row, column): channels} of the pixels, from the centre, that these outputs at the centre depend on."""
    x = torch.zeros(1, inputs, size, size, requires_grad=True)
    conv(x)[0, out_channels, size // 2, size // 2].abs().sum().backward()
    found = {}
    for channel, y, z in x.grad[0].nonzero().tolist():
        found.setdefault((y - size // 2, z - size // 2), set()).add(channel)
    return found


@pytest.mark.parametrize("window", WINDOWS)
def test_the_pixels_read_are_the_window(window):
    found = seen(built(window), 6, slice(None))
    assert set(found) == window.offsets
    assert all(len(channels) == 6 for channels in found.values())


def test_windows_by_hand():
    assert square(3, "A").offsets == {(-1, -1), (-1, 0), (-1, 1), (0, -1)}
    assert square(3, "B").offsets == square(3, "A").offsets | {(0, 0)}
    assert before(5, "A").offsets == {(0, -2), (0, -1)}
    assert before(3, "B").offsets == {(0, -1), (0, 0)}
    assert above(3, first=True).offsets == {(y, x) for y in (-2, -1) for x in (-1, 0, 1)}
    assert above(3, first=False).offsets == {(y, x) for y in (-1, 0) for x in (-1, 0, 1)}


@pytest.mark.parametrize("kind", ["A", "B"])
def test_a_colour_reads_of_its_own_pixel_those_before_it(kind):
    conv = built(square(3, kind), 6, 9, colours=3)
    for colour in range(3):
        found = seen(conv, 6, slice(3 * colour, 3 * colour + 3))
        allowed = range(colour + (kind == "B"))
        assert found.pop((0, 0), set()) == {channel for channel in range(6) if channel // 2 in allowed}
        assert set(found) == square(3, "A").offsets
        assert all(len(channels) == 6 for channels in found.values())


def test_gates_have_every_colour_each():
    assert groups(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert groups(8, 2, chunks=2).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    conv = built(square(1, "B"), 2, 8, colours=2, chunks=4)
    assert [seen(conv, 2, slice(i, i + 1))[0, 0] for i in range(8)] == [{0}, {0, 1}] * 4


@pytest.mark.parametrize("kind", ["A", "B"])
def test_it_is_the_masked_square_convolution(kind):
    conv, x = built(square(5, kind)), torch.randn(2, 6, 4, 6)
    weight = torch.zeros(6, 6, 5, 5)
    weight[:, :, :3] = conv.weight.detach()
    weight[:, :, 2, 3:] = 0
    weight[:, :, 2, 2] *= float(kind == "B")
    torch.testing.assert_close(conv(x), F.conv2d(x, weight, conv.bias, padding=2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [w for w in WINDOWS if w.row != "everything"])
@pytest.mark.parametrize("start", [0, 2])
def test_pixel_by_pixel_is_the_whole(window, start):
    conv, x = built(window).eval(), torch.randn(2, 6, 4, 5)
    begun = x.clone()
    begun[:, :, start, 1:] = 7.0  # not known yet, and not to be read
    rows = conv.whole(begun[:, :, : start + 1], keep=True)[1]
    full = conv(x)
    for i in range(start, 4):
        rows = rows if i == start else conv.next_row(rows)
        for j in range(5):
            y = conv.pixel(x[:, :, i : i + 1, j : j + 1], rows=rows, column=j)
            torch.testing.assert_close(y, full[:, :, i : i + 1, j : j + 1], atol=1e-5, rtol=1e-5)


def test_a_row_at_once_is_the_whole():
    conv, x = built(above(3, first=True)), torch.randn(2, 6, 4, 5)
    rows = conv.whole(x[:, :, :3], keep=True)[1]
    assert conv.whole(x, keep=False)[1] == ()
    torch.testing.assert_close(conv.read(conv.next_row(rows), 0, 5), conv(x)[:, :, 3:], atol=1e-5, rtol=1e-5)


def test_weights_start_by_the_inputs_that_count():
    conv = MaskedConv2d(200, 300, before(3, "A"), colours=1)
    assert conv.weight.abs().max().item() == pytest.approx(200**-0.5, rel=0.01)
    assert conv.weight.std().item() == pytest.approx((3 * 200) ** -0.5, rel=0.02)


def test_errors_name_what_was_found():
    with pytest.raises(ValueError, match="kernel: expected an odd number of pixels, found 4"):
        square(4, "A")
    with pytest.raises(ValueError, match="channels: expected 2 parts of at least 3 channels, found 4"):
        MaskedConv2d(3, 4, square(3, "B"), colours=3, chunks=2)
