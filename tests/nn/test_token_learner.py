"""Learned tokens are means of places, and the convolutional networks that RT-1 puts them on have its sizes."""

from __future__ import annotations

import pytest
import torch

from nextmove.contracts import normal, seeded
from nextmove.nn import count
from nextmove.nn.efficientnet import EfficientNet
from nextmove.nn.film import FilmedTokens
from nextmove.nn.token_learner import TokenLearner


def test_tokens_are_means_of_places() -> None:
    torch.manual_seed(0)
    net, maps = TokenLearner(6, 3), normal((2, 6, 4, 5), seeded(1))
    tokens = net(maps)
    assert tokens.shape == (2, 3, 6)
    places = maps.flatten(2)
    assert (tokens <= places.amax(2)[:, None]).all()
    assert (tokens >= places.amin(2)[:, None]).all()
    # Wherever a place lies, it counts the same.
    torch.testing.assert_close(net(maps.flip(3)), tokens)
    # One place that stands out takes a token whose weights are for it alone.
    with torch.no_grad():
        net.mlp[2].weight.zero_()
        net.mlp[2].bias.zero_()
    torch.testing.assert_close(net(maps), places.mean(2)[:, None].expand(-1, 3, -1))
    assert count(TokenLearner(512, 8)) == 34_376


def test_b3_has_its_published_sizes() -> None:
    with torch.device("meta"):
        net = EfficientNet().build()
    assert count(net) == 10_696_232
    assert len(net.blocks) == 26
    # 300 px become 9 where sides are taken to be even, 10 where they are rounded up.
    for padding, side in (("even", 9), ("same", 10)):
        small = EfficientNet(0.2, 0.2, head=False, padding=padding)  # type: ignore[arg-type]
        assert small.build().eval()(torch.zeros(1, 3, 300, 300)).shape == (1, small.out, side, side)


@pytest.mark.parametrize("norm", ["group", "batch", "frozen"])
def test_a_small_one_in_every_norm(norm: str) -> None:
    torch.manual_seed(0)
    config = EfficientNet(0.5, 0.5, norm, 16, head=False, padding="same")  # type: ignore[arg-type]
    net = FilmedTokens(config, 4, 12, 2).eval()
    images, condition = normal((2, 3, 50, 33), seeded(1)), normal((2, 4), seeded(2))
    assert net.features(images, condition).shape == (2, 12, 4, 3)
    tokens = net(images, condition)
    assert tokens.shape == (2, 2, 12)
    torch.testing.assert_close(net(images, -condition), tokens)
    with torch.no_grad():
        net.film[0].weight.fill_(0.5)
    assert not torch.allclose(net(images, -condition), net(images, condition), rtol=1e-3)


def test_sizes_that_there_are_not_are_named() -> None:
    with pytest.raises(ValueError, match="width: expected more than 0, found 0"):
        EfficientNet(width=0)
    with pytest.raises(ValueError, match="head: expected a stride of 32"):
        EfficientNet(stride=16)
    with pytest.raises(ValueError, match="tokens: expected at least 1, found 0"):
        TokenLearner(4, 0)
