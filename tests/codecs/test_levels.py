"""Actions as RT-1 writes them: evenly spaced values with both ends, and choices as one id."""

from __future__ import annotations

import pytest
import torch

from nextmove.codecs.levels import Levels
from nextmove.contracts import normal, seeded

RANGES = ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (-2.0, 3.0))


def codec() -> Levels:
    return Levels(bins=256, width=5, choices=((0, 3),), ranges=RANGES)


def test_ends_are_levels_and_what_lies_between_is_cut_off() -> None:
    own = codec()
    raw = torch.tensor([[[0, 1, 0, -1.0, -2.0], [1, 0, 0, 1.0, 3.0], [0, 0, 1, -5.0, 0.5]]])
    ids = own.encode(raw)
    assert ids.tolist() == [[1, 0, 0, 0, 255, 255, 2, 0, 127]]
    assert own.outside == pytest.approx(1 / 6)
    back = own.decode(ids)
    torch.testing.assert_close(back[0, :2], raw[0, :2])
    torch.testing.assert_close(back[0, 2], torch.tensor([0, 0, 1, -1.0, -2.0 + 127 / 255 * 5]))


def test_what_is_decoded_is_at_most_a_level_lower() -> None:
    own = Levels(bins=16, width=2, ranges=((-1.0, 1.0), (0.0, 4.0)))
    raw = (normal((3, 7, 2), seeded(1)) * 0.3).clamp(-1, 1) + torch.tensor([0.0, 2.0])
    off = raw - own.decode(own.encode(raw))
    assert (off >= -1e-6).all()
    assert (off <= torch.tensor([2.0, 4.0]) / 15 + 1e-6).all()


def test_a_choice_that_is_none_of_them_is_the_first() -> None:
    found = codec().decode(torch.tensor([[200, 0, 0]]))
    assert found[0, 0, :3].tolist() == [1, 0, 0]


def test_ranges_stay_and_others_are_fitted() -> None:
    own, free = codec(), Levels(bins=256, width=2)
    own.fit(torch.tensor([[9.0] * 5, [10.0] * 5]))
    assert own.high.tolist() == [1, 1, 1, 1, 3]
    free.fit(torch.tensor([[1.0, 7.0], [2.0, 7.0]]))
    assert free.encode(torch.tensor([[[2.0, 7.0]]])).tolist() == [[255, 127]]
    assert free.decode(torch.tensor([[255, 3]])).tolist() == [[[2.0, 7.0]]]


def test_weights_of_columns_become_those_of_ids() -> None:
    weight = torch.tensor([[[1.0, 0.5, 1.0, 0.25, 1.0]]])
    assert codec().by_id(weight).tolist() == [[0.5, 0.25, 1.0]]


def test_what_does_not_fit_is_named() -> None:
    for options, message in (
        ({"choices": ((3, 3),)}, "choices: expected two columns or more each, apart and below 5"),
        ({"choices": ((0, 2), (1, 2))}, "choices: expected two columns or more each, apart"),
        ({"choices": ((0, 1),)}, "choices: expected two columns or more each"),
        ({"ranges": RANGES[:4]}, "ranges: expected low and high of each of 5 columns"),
        ({"ranges": (*RANGES[:4], (1.0, 1.0))}, "ranges: expected low and high of each of 5 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            Levels(width=5, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x: expected a multiple of 3 ids a row, found 4"):
        codec().decode(torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="x: expected ids from 0 to 255, found 0 to 256"):
        codec().decode(torch.tensor([[0, 0, 256]]))
    with pytest.raises(ValueError, match="values: expected finite numbers"):
        codec().encode(torch.full((1, 1, 5), torch.nan))
