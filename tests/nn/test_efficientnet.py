"""EfficientNet-Lite0 beside the package that its weights were made with (efficientnet-lite-pytorch 0.1.0)."""

from __future__ import annotations

import pytest
import torch

from nextmove.nn import count
from nextmove.nn.efficientnet import EfficientNetLite

# Of the reference with dynamic padding in float64, filled as `fill` does: shape, mean and spread of its feature maps.
REFERENCE = {
    8: ((2, 40, 9, 7), 0.006091546747123638, 0.5675003969059678),
    16: ((2, 112, 5, 4), 0.0406355362959177, 0.8634568791401324),
    32: ((2, 320, 3, 2), 0.018795379443662195, 4.075173566956108),
    "head": ((2, 1280, 3, 2), 0.1990756171711719, 0.28347177079375124),
}
IMAGE = torch.sin(torch.arange(2 * 3 * 70 * 51, dtype=torch.float64) * 0.01).reshape(2, 3, 70, 51)


def fill(net: torch.nn.Module) -> None:
    """By size and kind alone, so that names do not matter."""
    with torch.no_grad():
        for name, value in (*net.named_parameters(), *net.named_buffers()):
            if not value.is_floating_point():
                continue
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + value.numel()).reshape(
                value.shape
            )
            if value.dim() > 1:
                wave = wave * (6 / value[0].numel()) ** 0.5
            elif "running_var" in name:
                wave = 1 + 0.5 * wave
            else:
                wave = 0.1 * wave + float(name.endswith("weight"))
            value.copy_(wave)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("stride", [8, 16, 32, "head"])
def test_feature_maps_are_the_references(stride: int | str, norm: str) -> None:
    size = {"head": True, "stride": 32} if stride == "head" else {"stride": stride}
    config = EfficientNetLite(norm=norm, **size)  # type: ignore[arg-type]
    net = config.build().double().eval()
    fill(net)
    with torch.no_grad():
        maps = net(IMAGE)
    shape, mean, spread = REFERENCE[stride]  # type: ignore[index]
    assert tuple(maps.shape) == shape
    assert shape[1] == config.out
    assert (maps.mean().item(), maps.std().item()) == pytest.approx((mean, spread))


def test_its_whole_has_the_published_number_of_weights() -> None:
    net = EfficientNetLite("batch", 32, True).build()
    assert count(net) == 4_652_008 - 1_281_000
    with pytest.raises(ValueError, match="head: expected a stride of 32, behind which it is, found 16"):
        EfficientNetLite(head=True)
