"""A frozen batch norm multiplied into the convolution in front of it gives the numbers of the two in turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nextmove.nn import frozen
from nextmove.nn.frozen import FrozenBatchNorm2d, normed
from nextmove.nn.resnet import ResNet


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def drawn(norm: Any) -> Any:
    """Statistics and gains of a trained network's kind."""
    with torch.no_grad():
        for name, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -1, 1),
            ("running_mean", -1, 1),
            ("running_var", 0.5, 2),
        ):
            getattr(norm, name).uniform_(low, high)
    return norm


def layer(norm: type[nn.Module] = FrozenBatchNorm2d) -> tuple[nn.Conv2d, Any]:
    return nn.Conv2d(3, 8, 3, 2, 1, bias=False), drawn(norm(8)).eval()


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("size", [40, 4])
def test_one_convolution_gives_the_numbers_of_both(norm: type[nn.Module], size: int) -> None:
    conv, own = layer(norm)
    x = torch.randn(2, 3, size, size, requires_grad=True)
    reference = nn.BatchNorm2d(8).eval()
    reference.load_state_dict({**reference.state_dict(), **own.state_dict()})
    expected = reference(conv(x))
    trained = normed(conv, own, x)
    torch.testing.assert_close(trained, expected)
    grads = torch.autograd.grad(expected.square().sum(), [x, conv.weight])
    found = torch.autograd.grad(trained.square().sum(), [x, conv.weight])
    for one, other in zip(found, grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(normed(conv, own, x), expected)


def test_what_is_folded_is_kept_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    fold = frozen._fold
    monkeypatch.setattr(frozen, "_fold", lambda *parts: made.append(1) or fold(*parts))
    (conv, own), x = layer(), torch.randn(1, 3, 6, 6)
    with torch.no_grad():
        first = normed(conv, own, x)
        assert torch.equal(normed(conv, own, x), first)
        assert len(made) == 1
        own.running_var.mul_(4)
        torch.testing.assert_close(normed(conv, own, x), own(conv(x)))
        conv.weight.mul_(2)
        torch.testing.assert_close(normed(conv, own, x), own(conv(x)))
        assert len(made) == 3


def test_a_batch_norm_in_training_is_not_folded() -> None:
    (conv, own), x = layer(nn.BatchNorm2d), torch.randn(4, 3, 8, 8)
    own.train()
    with torch.no_grad():
        y = normed(conv, own, x)
    torch.testing.assert_close(y.mean((0, 2, 3)), own.bias)


def test_a_frozen_norm_learns_nothing_and_is_saved() -> None:
    net = ResNet(norm="frozen").build()
    assert all("bn" not in name and "downsample.1" not in name for name, _ in net.named_parameters())
    assert {"bn1.running_var", "layer2.0.downsample.1.weight"} <= set(net.state_dict())
    assert not any(name.endswith("num_batches_tracked") for name in net.state_dict())
