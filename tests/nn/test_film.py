"""FiLM around a residual network: at first the network itself, then scaled and shifted by the condition."""

from __future__ import annotations

import torch

from nextmove.contracts import normal, seeded
from nextmove.nn.film import Filmed
from nextmove.nn.resnet import ResNet


def test_it_begins_as_the_network_without_a_condition() -> None:
    torch.manual_seed(0)
    net = Filmed(ResNet(), 5).eval()
    image, condition = normal((2, 3, 40, 48), seeded(1)), normal((2, 5), seeded(2))
    expected = net.backbone(image).mean((2, 3))
    torch.testing.assert_close(net(image, condition), expected)
    torch.testing.assert_close(net(image, -condition), expected)


def test_the_condition_scales_and_shifts_after_every_block() -> None:
    torch.manual_seed(0)
    net = Filmed(ResNet(), 1).eval()
    image = normal((1, 3, 40, 40), seeded(1))
    with torch.no_grad():
        for layer in net.film:
            layer.weight.fill_(0.3)
        maps = net.backbone.first(image)
        for block in net.backbone.blocks:
            maps = 1.6 * block(maps) + 0.6
        torch.testing.assert_close(net(image, torch.tensor([[2.0]])), maps.mean((2, 3)))


def test_rows_are_conditioned_on_their_own() -> None:
    torch.manual_seed(0)
    net = Filmed(ResNet(), 2).eval()
    for layer in net.film:
        torch.nn.init.normal_(layer.weight, std=0.1)
    image = normal((1, 3, 40, 40), seeded(1)).expand(2, -1, -1, -1)
    both = net(image, torch.eye(2))
    torch.testing.assert_close(both[1:], net(image[:1], torch.eye(2)[1:]))
    assert not torch.allclose(both[0], both[1], atol=1e-2)
