"""The point encoder against its definition written out, and what a set of points must not depend on."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nextmove.nn import Points3d


def build(color=False):
    torch.manual_seed(0)
    net = Points3d(out=24, color=color).build()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def naive(w, points, widths, normed):
    h, place = points, 0
    for i, width in enumerate(widths):
        h = h @ w[f"mlp.{place}.weight"].T + w[f"mlp.{place}.bias"]
        if i < normed:
            h = F.relu(F.layer_norm(h, (width,), w[f"mlp.{place + 1}.weight"], w[f"mlp.{place + 1}.bias"]))
        place += 3
    h = torch.stack([rows.max(0).values for rows in h])
    h = h @ w["projection.0.weight"].T + w["projection.0.bias"]
    return F.layer_norm(h, h.shape[1:], w["projection.1.weight"], w["projection.1.bias"])


@pytest.mark.parametrize(
    ("color", "columns", "widths", "normed"),
    [(False, 3, (64, 128, 256), 3), (True, 6, (64, 128, 256, 512), 3)],
)
def test_equals_the_definition(color, columns, widths, normed):
    net, points = build(color), torch.randn(2, 16, columns)
    expected = naive(net.state_dict(), points, widths, normed)
    torch.testing.assert_close(net(points), expected, rtol=1e-4, atol=1e-5)


def test_order_and_repetition_of_points_do_not_matter():
    net, points = build(), torch.randn(2, 16, 3)
    shuffled = points[:, torch.randperm(16)]
    torch.testing.assert_close(net(shuffled), net(points))
    torch.testing.assert_close(net(torch.cat([points, points[:, :5]], 1)), net(points))


def test_a_far_point_changes_the_answer():
    net, points = build(), torch.randn(2, 16, 3)
    moved = points.clone()
    moved[0, 3] += 10
    changed = (net(moved) - net(points)).abs().amax(1)
    assert changed[0] > 1e-3
    assert changed[1] == 0


@pytest.mark.parametrize("color", [False, True])
def test_gradients_are_those_of_all_points(color):
    """In training only points that reach a maximum are passed back; a cloud may hold one point many times."""
    net, points = build(color), torch.randn(2, 6, 700, 6)
    points[0, 0, 100:] = points[0, 0, :1]
    net(points).square().sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    whole = net.projection(net.mlp(points[..., : net.channels]).amax(-2))
    whole.square().sum().backward()
    torch.testing.assert_close(net(points), whole, rtol=1e-5, atol=1e-5)
    for gradient, parameter in zip(found, net.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4 * float(parameter.grad.abs().max()))
    assert net._reached(points[..., : net.channels]).shape[-2] < 400
