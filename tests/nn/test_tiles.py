"""Large images by tiles: the published choice of a size, the order of tiles and tokens, what padding takes away."""

import pytest
import torch

from nextmove.nn.tiles import Tiles, best_size, tiled, unpadded

PUBLISHED = [(672, 336), (336, 672), (672, 672), (336, 1008), (1008, 336)]
"""LLaVA 1.6's, (height, width)."""


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (336, 336, (672, 336)), (800, 600, (672, 672)), (300, 900, (336, 1008)), (900, 300, (1008, 336)),
        (400, 800, (336, 672)), (2000, 2000, (672, 672)),
    ],
)  # fmt: skip
def test_the_size_that_shows_most(height, width, expected):
    assert best_size(height, width, PUBLISHED) == expected


def test_no_sizes():
    with pytest.raises(ValueError, match="sizes: expected at least one, found none"):
        best_size(1, 1, [])


def test_tiles_come_row_by_row_behind_the_whole():
    image = torch.arange(6.0).view(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 12)
    found = tiled(image, 4)
    assert found.shape == (1, 7, 3, 4, 4)
    assert [float(tile.unique()) for tile in found[0, 1:]] == [0, 1, 2, 3, 4, 5]
    assert float(found[0, 0].mean()) == pytest.approx(2.5, abs=1e-5)
    with pytest.raises(ValueError, match="expected tiles of 5 x 5, found 8 x 12"):
        tiled(image, 5)


def test_the_tokens_of_all_tiles_are_one_grid():
    tiles = Tiles(2, 3, 1)
    torch.nn.init.constant_(tiles.newline, -1)
    # Tokens are numbered as they lie in the whole picture, 4 rows of 6.
    grid = torch.arange(24.0).view(2, 2, 3, 2).transpose(1, 2).reshape(1, 6, 4, 1)
    x = torch.cat([torch.full((1, 1, 4, 1), 100.0), grid], 1)
    rows = [[*range(6 * i, 6 * i + 6), -1] for i in range(4)]
    assert tiles(x)[0, :, 0].tolist() == [100.0] * 4 + [value for row in rows for value in row]
    assert tiles.tokens(4) == tiles(x).shape[1]
    # A picture as wide as the grid and half as high fills its middle rows.
    cut = tiles(x, (10, 30))[0, 4:, 0].tolist()
    assert cut == [value for row in rows[1:3] for value in row]
    with pytest.raises(ValueError, match="x: expected 7 squares of tokens an image, found 5 of 4"):
        tiles(x[:, :5])


def test_what_padding_took():
    assert unpadded(100, 100, 8, 8) == (slice(0, 8), slice(0, 8))
    assert unpadded(50, 100, 8, 8) == (slice(2, 6), slice(0, 8))
    assert unpadded(100, 50, 8, 8) == (slice(0, 8), slice(2, 6))
