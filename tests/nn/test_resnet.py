"""ResNets beside torchvision 0.28's on the same weights, and keypoints by hand."""

from __future__ import annotations

import pytest
import torch

from nextmove.nn.resnet import BasicBlock, ResNet, SpatialSoftmax

# Of torchvision.models.resnet18, resnet34 (torchvision 0.28) and resnet50 (0.26; group norm: 16 channels a group) in
# float64, filled as `fill` does: mean of the feature maps, their first value, the second image's spread, and the number
# of parameters.
REFERENCE = {
    (18, "batch"): (263806.82235572377, 867351.569825261, 386349.4869598223, 11_176_512),
    (18, "group"): (0.9680522289978867, 2.7156263180423785, 1.258786332653322, 11_176_512),
    (34, "batch"): (348822583151.2255, 1079116727709.9563, 357628940363.3142, 21_284_672),
    (34, "group"): (1.403557263931434, 1.1854079307676957, 1.764981837374099, 21_284_672),
    (50, "batch"): (214742979.62037122, 1031369843.8924086, 289255461.24792176, 23_508_032),
    (50, "group"): (1.3833143641471721, 0.0, 1.6485508022917825, 23_508_032),
}
DILATED = (1.3600450796770382, 0.0, 1.6161422707305755)
"""Of resnet50 with group norm and `replace_stride_with_dilation=[False, False, True]`."""
IMAGE = torch.sin(torch.arange(2 * 3 * 70 * 50, dtype=torch.float64) * 0.01).reshape(2, 3, 70, 50)


def fill(net: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, value in (*net.named_parameters(), *net.named_buffers()):
            if not value.is_floating_point():
                continue
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + len(name)).reshape(value.shape)
            if value.dim() > 1:
                wave = wave * (2 / value[0].numel()) ** 0.5
            elif "running_var" in name:
                wave = 1 + 0.5 * wave
            else:
                wave = 0.1 * wave + float(name.endswith("weight"))
            value.copy_(wave)


@pytest.mark.parametrize(("layers", "norm"), REFERENCE)
def test_feature_maps_are_torchvisions(layers: int, norm: str) -> None:
    net = ResNet(layers, norm).build().double().eval()  # type: ignore[arg-type]
    fill(net)
    with torch.no_grad():
        maps = net(IMAGE)
    mean, first, spread, parameters = REFERENCE[layers, norm]
    assert maps.shape == (2, ResNet(layers).out, 3, 2)  # type: ignore[arg-type]
    assert (maps.mean().item(), maps[0, 0, 0, 0].item(), maps[1].std().item()) == pytest.approx((mean, first, spread))
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_frozen_norms_are_batch_norms_of_fixed_numbers() -> None:
    net = ResNet(norm="frozen").build().double().eval()
    fill(net)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            maps = net(IMAGE)
        found = (maps.mean().item(), maps[0, 0, 0, 0].item(), maps[1].std().item())
        assert found == pytest.approx(REFERENCE[18, "batch"][:3])


def test_a_dilated_last_stage_gives_finer_maps() -> None:
    net = ResNet(50, dilate=True).build().double().eval()
    fill(net)
    with torch.no_grad():
        maps = net(IMAGE)
    assert maps.shape == (2, 2048, 5, 4)
    assert (maps.mean().item(), maps[0, 0, 0, 0].item(), maps[1].std().item()) == pytest.approx(DILATED)
    with pytest.raises(ValueError, match="dilate: expected at least 50 layers, whose blocks can be dilated, found 18"):
        ResNet(dilate=True)


def test_a_keypoint_is_where_its_map_is_bright() -> None:
    pool = SpatialSoftmax(2, 2)
    with torch.no_grad():
        pool.keypoints.weight.copy_(100 * torch.eye(2).reshape(2, 2, 1, 1))
        pool.keypoints.bias.zero_()
        maps = torch.zeros(1, 2, 3, 5)
        maps[0, 0, 0, 4] = maps[0, 1, 2, 1] = 1
        assert pool(maps)[0].tolist() == pytest.approx([1, -1, -0.5, 1])
        # Nothing is brighter than the rest: the middle.
        assert pool(torch.zeros(1, 2, 3, 5))[0].tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_gradients_of_maps_of_one_value_are_whole_under_autocast() -> None:
    """Memory that was freed holds NaN, so that what is left unwritten of a gradient would show."""
    block = BasicBlock(128, 256, 2, "group")
    for _ in range(20):
        freed = [torch.full((256 * 128 * 9,), torch.nan, dtype=torch.bfloat16) for _ in range(8)]
        del freed
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = block(torch.ones(24, 128, 1, 1))
        y.float().square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in block.parameters())
        # A single value has neighbours nowhere.
        assert block.conv1.weight.grad[:, :, 0].eq(0).all()
