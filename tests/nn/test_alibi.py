"""ALiBi: slopes in closed form, distances between tokens that are no padding, and scores by hand."""

import pytest
import torch
from torch import nn

from nextmove.nn.alibi import Alibi
from nextmove.nn.block import Block
from nextmove.nn.mask import CAUSAL, biased_mask
from nextmove.nn.stream import Stream


@pytest.mark.parametrize(
    ("heads", "powers"),
    [
        (1, [8]),
        (2, [4, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (16, [i / 2 for i in range(1, 17)]),
        # Those of the power of two below, then every second one of the power above.
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_slopes_are_a_geometric_series(heads, powers):
    torch.testing.assert_close(Alibi().slopes(heads), torch.tensor([2.0**-p for p in powers]))


def test_slopes_of_another_steepness():
    torch.testing.assert_close(Alibi(2.0).slopes(2), torch.tensor([0.5, 0.25]))


@pytest.mark.parametrize("mask", [None, CAUSAL, "bool", "added"])
def test_a_bias_leaves_what_a_mask_leaves(mask):
    bias = Alibi().bias(torch.arange(3, 5), torch.arange(5), 2)
    assert bias.shape == (1, 2, 2, 5)
    assert bias[0, 0].tolist() == [[-3 / 16, -2 / 16, -1 / 16, 0, -1 / 16], [-4 / 16, -3 / 16, -2 / 16, -1 / 16, 0]]
    torch.testing.assert_close(bias[0, 1], bias[0, 0] / 16)
    seen = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]], dtype=torch.bool)
    given = seen[None] if mask == "bool" else torch.where(seen, 2.0, -torch.inf)[None] if mask == "added" else mask
    made = biased_mask(bias, given)
    order = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    left = {None: torch.ones_like(seen), CAUSAL: order}.get(mask, seen)
    assert torch.equal(made > -torch.inf, left.expand_as(made))
    assert torch.equal(made[:, :, left], bias[:, :, left] + (2 if mask == "added" else 0))


@torch.no_grad()
def test_scores_fall_with_distance_as_by_hand():
    torch.manual_seed(0)
    stream = Stream([Block(8, 2)], alibi=Alibi())
    for weight in stream.parameters():
        nn.init.normal_(weight, std=0.5)
    x, block = torch.randn(1, 4, 8), stream.blocks[0]
    h = block.attention_branch.norm(x)
    q, k, v = block.attention.project(h, h, h)
    place = torch.arange(4.0)
    score = q @ k.mT / 2 - torch.tensor([1 / 16, 1 / 256])[:, None, None] * (place[:, None] - place)
    y = score.masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf).softmax(-1) @ v
    expected = x + block.attention.out_proj(y.transpose(1, 2).flatten(2))
    expected = expected + block.feedforward(block.feedforward_branch.norm(expected))
    torch.testing.assert_close(stream(x, mask=CAUSAL)[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_numbers_that_positions_begin_with_change_nothing():
    torch.manual_seed(0)
    stream, x = Stream([Block(8, 2)] * 2, alibi=Alibi()), torch.randn(2, 6, 8)
    valid = torch.tensor([[1, 1, 0, 0, 1, 1], [1, 1, 1, 0, 0, 1]], dtype=torch.bool)
    counted = valid.cumsum(1) - 1
    whole = stream(x, mask=CAUSAL, valid=valid)[0]
    for start in (0, 7):
        first, memory = stream(x[:, :3], positions=counted[:, :3] + start, mask=CAUSAL, valid=valid[:, :3])
        at = counted[:, 3:] + start
        last, _ = stream(x[:, 3:], positions=at, mask=CAUSAL, valid=valid[:, 3:], memory=memory)
        torch.testing.assert_close(torch.cat([first, last], 1)[valid], whole[valid], atol=1e-5, rtol=1e-5)
