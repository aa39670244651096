"""PixelCNN and Gated PixelCNN: what a pixel reads, exactly."""

import dataclasses

import pytest
import torch
from tests.nn import rasters

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.count import count
from nextmove.nn.masked_conv import above, before, square
from nextmove.nn.pixelcnn import GatedCnn, MaskedCnn, gate

PLAIN = MaskedCnn(width=3, layers=2, head=4, first=3)
GATED = GatedCnn(width=3, layers=3, head=4, first=3)
TRUNKS = pytest.mark.parametrize("trunk", [PLAIN, GATED], ids=["plain", "gated"])


def plain_reads(trunk, grid, place):
    """Paths through the masks: kind B in each block, then kind A."""
    places = {place}
    for _ in range(trunk.layers):
        places = rasters.moved(places, square(trunk.kernel, "B").offsets, grid)
    return rasters.moved(places, square(trunk.first, "A").offsets, grid)


def gated_reads(trunk, grid, place):
    """Paths through both stacks: at each layer along the row, or up into the vertical stack of that layer."""
    places, found = {place}, set()
    for layer in reversed(range(trunk.layers)):
        up = places
        for _ in range(layer):
            up = rasters.moved(up, above(trunk.kernel, first=False).offsets, grid)
        found |= rasters.moved(up, above(trunk.first, first=True).offsets, grid)
        window = before(trunk.kernel, "B") if layer else before(trunk.first, "A")
        places = rasters.moved(places, window.offsets, grid)
    return found | places


@pytest.mark.parametrize("grid", [(4, 5, 1), (3, 4, 3)])
@TRUNKS
def test_every_pixel_reads_what_its_masks_let_through(trunk, grid):
    net = rasters.positive(rasters.built(dataclasses.replace(trunk, layers=2), grid))
    reads = plain_reads if isinstance(trunk, MaskedCnn) else gated_reads
    for i in range(grid[0]):
        for j in range(grid[1]):
            expected = reads(net_trunk(trunk), grid, (i, j))
            assert expected <= rasters.earlier(grid, (i, j))
            rasters.assert_reads_exactly(net, grid, (i, j), expected)


def net_trunk(trunk):
    return dataclasses.replace(trunk, layers=2)


def test_plain_pixelcnn_has_the_published_blind_spot():
    grid, centre = (25, 25, 1), (12, 12)
    trunk = MaskedCnn(width=1, layers=11, head=1, first=3)  # 12 masked 3 x 3 layers
    found = {(i, j) for i, j, _ in rasters.read(rasters.positive(rasters.built(trunk, grid)), grid, centre)}
    # Each step up reaches one further to the right: a triangle there is never read, whatever the depth.
    blind = {(12 - d, j) for d in range(1, 13) for j in range(12 + d + 1, 25)}
    assert found == rasters.earlier(grid, centre) - blind
    assert len(found) == 246
    assert len(rasters.earlier(grid, centre)) == 312
    assert plain_reads(trunk, grid, centre) == found


def test_gated_pixelcnn_has_none():
    grid, centre = (11, 13, 1), (8, 6)
    trunk = GatedCnn(width=1, layers=3, head=1, first=5)
    found = {(i, j) for i, j, _ in rasters.read(rasters.positive(rasters.built(trunk, grid)), grid, centre)}
    # First kernel 5, then two of 3: four columns to either side, and one row more upwards.
    assert found == {(i, j) for i, j in rasters.earlier(grid, centre) if abs(j - 6) <= 4 and i >= 8 - 5}
    deep = rasters.positive(rasters.built(dataclasses.replace(trunk, layers=8), grid))
    rasters.assert_reads_exactly(deep, grid, centre, rasters.earlier(grid, centre))


def test_numbers_are_in_minus_one_to_one_and_the_start_says_nothing():
    net = rasters.built(PLAIN, (2, 3, 1), classes=5)
    ids = torch.tensor([[5, 0, 2, 4, 1, 3]])
    image = torch.tensor([[-1.0, 0.0, 1.0, -0.5, 0.5, 0.0]]).view(1, 1, 2, 3)
    torch.testing.assert_close(net(ids, Context.empty(1), None)[0], net.image(image, Context.empty(1)))


def test_gates_by_hand():
    assert gate(torch.tensor([[1.0, 2.0]]))[0, 0].item() == pytest.approx(0.7615942 * 0.8807971)


def test_parameters_by_formula():
    """No paper states a count; these are the weights inside the masks' rows and columns."""
    h, n, k, head, first = 5, 4, 3, 7, 7
    trunk = MaskedCnn(width=h, layers=n, head=head, first=first, grid=(6, 6, 1))
    block = 2 * h * h + h + 2 * k * h * h + h + 2 * h * h + 2 * h
    expected = 2 * h * (4 * first + 1) + n * block + (2 * h + 1) * head + (head + 1) * 9
    assert count(trunk.build_tokens(length=36, classes=9, context=ContextSpec())) == expected
    p = h
    gated = GatedCnn(width=p, layers=n, head=head, first=first, grid=(6, 6, 1))
    stack = 2 * p * (5 * first + 1) + 2 * p * (4 + 1) + (n - 1) * (2 * p * (2 * k * p + 1) + 2 * p * (2 * p + 1))
    layers = n * (2 * p * (2 * p + 1) + p * (p + 1))
    expected = stack + layers + (p + 1) * head + (head + 1) * 9
    assert count(gated.build_tokens(length=36, classes=9, context=ContextSpec())) == expected
