"""The vision transformer: sizes, places, and that every patch is seen where it is."""

from __future__ import annotations

import pytest
import torch

from nextmove.nn.vit import Vit


@pytest.mark.parametrize(
    ("size", "patch", "places"), [((84, 84), 12, (7, 7)), ((96, 128), 16, (6, 8)), ((50, 33), 16, (4, 3))]
)
def test_maps_have_a_place_for_each_patch(size: tuple[int, int], patch: int, places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = Vit(patch=patch, width=48, layers=2)
    net = config.build().eval()
    assert (config.out, config.stride) == (48, patch)
    maps = net(torch.randn(2, 3, *size))
    assert maps.shape == (2, 48, *places)
    maps.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters() if p.dim() > 1)


def test_a_patch_is_known_by_its_place_and_seen_by_all() -> None:
    torch.manual_seed(0)
    net = Vit(patch=8, width=32, layers=1, heads=2).build().eval()
    image = torch.zeros(1, 3, 24, 24)
    plain = net(image)
    # Without positions all patches of a plain image would be alike.
    assert (plain[0, :, 0, 0] - plain[0, :, 2, 1]).abs().max() > 1e-3
    image[:, :, 8:16, 16:24] = 1
    changed = (net(image) - plain).abs().amax(1)[0]
    assert (changed > 1e-6).all()
    assert changed.argmax() == 1 * 3 + 2
