"""The distance of looks: by its definition, with fixed orthogonal kernels that are saved and never trained."""

import pytest
import torch
from torch import nn

from nextmove.nn.perceptual import Perceptual, RandomFeatures


class Given(nn.Module):
    """Features that are the image itself and its double."""

    def forward(self, x):
        return [x, 2 * x[:, :, ::2]]


def test_distance_by_loops():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    found = Perceptual(Given())(x, y)
    for b in range(2):
        expected = 0.0
        for a, c in zip(Given()(x[b : b + 1]), Given()(y[b : b + 1]), strict=True):
            _, _, h, w = a.shape
            for i in range(h):
                for j in range(w):
                    u, v = a[0, :, i, j], c[0, :, i, j]
                    expected += float((u / u.norm() - v / v.norm()).square().sum()) / (h * w)
        assert found[b].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(Perceptual(Given())(x, x), torch.zeros(2))


def test_kernels_are_orthogonal_fixed_and_saved():
    net = RandomFeatures((32, 64), seed=3).build(shape=(3, 16, 16))
    first, second = (kernel.flatten(1) for kernel in net.buffers())
    torch.testing.assert_close(first.T @ first, 2 * torch.eye(27), atol=1e-5, rtol=0)  # 32 rows of 27
    torch.testing.assert_close(second @ second.T, 2 * torch.eye(64), atol=1e-5, rtol=0)
    assert list(net.parameters()) == []
    assert len(net.state_dict()) == 2
    again, other = (RandomFeatures((32, 64), seed=s).build(shape=(3, 16, 16)) for s in (3, 4))
    assert torch.equal(again.features.kernel0, net.features.kernel0)
    assert not torch.equal(other.features.kernel0, net.features.kernel0)
    with torch.device("meta"):
        RandomFeatures().build(shape=(3, 16, 16))


def test_it_sees_structure_and_small_images_have_fewer_layers():
    net = RandomFeatures().build(shape=(1, 8, 8))
    assert [f.shape[2] for f in net.features(torch.randn(1, 1, 8, 8))] == [8, 4, 2]
    assert len(RandomFeatures().build(shape=(1, 4, 4)).features(torch.randn(1, 1, 4, 4))) == 2
    torch.manual_seed(0)
    x = torch.rand(16, 1, 8, 8) * 2 - 1
    blurred = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noise = torch.randn_like(x)
    noise *= ((blurred - x).square().mean() / noise.square().mean()).sqrt() * 0.25
    assert net(x, blurred).mean() > net(x, (x + noise).clamp(-1, 1)).mean() > 0
    y = blurred.requires_grad_()
    net(x, y).sum().backward()
    assert y.grad.isfinite().all()
    flat = torch.zeros(2, 1, 8, 8, requires_grad=True)
    net(x[:2], flat).sum().backward()
    assert flat.grad.isfinite().all()
