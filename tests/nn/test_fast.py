"""Faster ways to the same numbers: dropout, Mish, packed products, convolutions as products."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nextmove.contracts import Optim, seeded
from nextmove.nn import kept, product
from nextmove.nn.attention import Attention, Heads
from nextmove.nn.conv import Conv1d, Upsample1d, reaching
from nextmove.nn.dropout import Dropout
from nextmove.nn.mask import CAUSAL, block_mask
from nextmove.nn.mish import Mish
from nextmove.training.optim import Update, trainable


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_everywhere_alike_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer, x = Dropout(p), torch.ones(4000, 24, requires_grad=True)
    y = layer(x)
    share = round(p * 256) / 256
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - share)])
    # Eight masks come out of one random word: each of them has the same share.
    assert ((y == 0).float().mean(0) - share).abs().max() < 5 * (share * (1 - share) / 4000) ** 0.5
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    torch.manual_seed(0)
    assert torch.equal(layer(x), y)
    assert not torch.equal(layer(x), y)
    assert torch.equal(layer.eval()(x), x)


def test_masks_of_neighbours_are_independent():
    torch.manual_seed(0)
    y = (Dropout(0.5)(torch.ones(20000, 8)) == 0).float() - 0.5
    together = (y.T @ y / len(y)) * 4
    assert (together - torch.eye(8)).abs().max() < 0.04


def test_dropout_of_all_or_nothing():
    x = torch.randn(5, 3, generator=seeded(0))
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(5, 3))


def test_mish_is_mish_with_its_gradient_and_tangent():
    x = torch.linspace(-40, 40, 4001).double().requires_grad_()
    (ours,) = torch.autograd.grad(Mish()(x).sum(), x)
    (theirs,) = torch.autograd.grad(F.mish(x).sum(), x)
    torch.testing.assert_close(Mish()(x), F.mish(x))
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        assert torch.equal(Mish()(x), F.mish(x))
    value, tangent = torch.func.jvp(Mish(), (x.detach(),), (torch.ones_like(x),))
    torch.testing.assert_close(value, F.mish(x))
    torch.testing.assert_close(tangent, theirs)


@pytest.fixture
def small(monkeypatch):
    """Small weights are packed too."""
    monkeypatch.setattr(product, "LEAST", 1)


def test_packed_products_follow_their_weights(small):
    torch.manual_seed(0)
    layer, x = product.Linear(40, 24), torch.randn(2, 5, 40)
    before = len(product._copies)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
        assert len(product._copies) == before + product._torch.can_pack()
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
        layer.weight.data = torch.randn(24, 40)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
        other = copy.deepcopy(layer)
        other.weight.zero_()
        torch.testing.assert_close(other(x), layer.bias.expand(2, 5, 24))
    del layer, other
    assert len(product._copies) == before


@pytest.mark.parametrize("fused", [True, False])
def test_packed_products_follow_an_optimiser(small, fused):
    torch.manual_seed(0)
    layer, x = product.Linear(40, 24), torch.randn(5, 40)
    optim = torch.optim.AdamW(layer.parameters(), 1e-3, fused=fused)
    layer(x).square().sum().backward()
    with torch.no_grad():
        layer(x)
    # A fused step leaves the version of the weights as it is.
    optim.step()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("own", [True, False])
def test_packed_products_follow_weights_of_which_one_column_stands_still(small, own):
    """A tap that only ever reads padding has no gradient; its weights say nothing about the others."""
    torch.manual_seed(0)
    layer, x = product.Linear(40, 2 * kept.LOOKS), torch.randn(5, 40)
    x[:, 0] = 0
    if own:
        update = Update(trainable(layer), Optim(weight_decay=0.0), undecayed=set())
    else:
        optim = torch.optim.AdamW(layer.parameters(), 1e-3, weight_decay=0.0, fused=True)
    layer(x).square().sum().backward()
    with torch.no_grad():
        layer(x)
    update.apply(1.0, float(update.norm())) if own else optim.step()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_packed_products_leave_gradients_and_tangents_alone(small):
    torch.manual_seed(0)
    layer, x = product.Linear(40, 24), torch.randn(5, 40)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((24,), 5.0))
    with torch.no_grad():
        _, tangent = torch.func.jvp(layer, (x,), (x,))
        torch.testing.assert_close(tangent, x @ layer.weight.T)
        each = torch.func.vmap(layer)(x)
        torch.testing.assert_close(each, F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize(
    ("length", "kernel", "stride", "padding"),
    [(16, 5, 1, 2), (4, 5, 1, 2), (3, 5, 1, 2), (2, 5, 1, 2), (1, 5, 1, 2), (8, 3, 2, 1), (2, 3, 2, 1), (1, 3, 2, 1),
     (9, 1, 1, 0), (2, 5, 1, 3), (3, 4, 3, 1)],
)  # fmt: skip
def test_convolutions_equal_pytorchs_with_gradients(rows, length, kernel, stride, padding):
    torch.manual_seed(0)
    ours = Conv1d(6, 10, kernel, stride, padding)
    theirs = nn.Conv1d(6, 10, kernel, stride, padding)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        x = torch.randn(rows, 6, length, generator=seeded(1)).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, layer.weight.grad, layer.bias.grad))
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("length", "stride", "left"), [(1, 1, [2]), (2, 1, [1, 2, 3]), (4, 1, [0, 1, 2, 3, 4]), (2, 2, [2, 3])]
)
def test_taps_that_only_see_zeros_are_left_out(length, stride, left):
    weight = torch.arange(5.0).expand(3, 2, 5)
    taps, around = reaching(weight, length, stride, 2)
    assert taps[0, 0].tolist() == left
    x = torch.randn(2, 2, length)
    found, expected = F.conv1d(F.pad(x, around), taps, None, stride), F.conv1d(x, weight, None, stride, 2)
    torch.testing.assert_close(found, expected)


def test_short_inputs_keep_their_taps_until_weights_change():
    torch.manual_seed(0)
    conv, x = Conv1d(256, 256, 5, padding=2), torch.randn(1, 256, 1)
    with torch.inference_mode():
        before = conv(x)
        assert reaching(conv.weight, 1, 1, 2)[0] is reaching(conv.weight, 1, 1, 2)[0]
    with torch.no_grad():
        conv.weight.mul_(2)
    with torch.inference_mode():
        bias = conv.bias[None, :, None]
        torch.testing.assert_close(conv(x) - bias, 2 * (before - bias))


def test_large_convolutions_of_short_inputs_are_exported():
    """Copies are of what is computed here: a compiler has tensors without values."""
    torch.manual_seed(0)
    conv, x = Conv1d(256, 256, 5, padding=2).eval(), torch.randn(1, 256, 1)
    with torch.no_grad():
        found = torch.export.export(conv, (x,)).module()(x)
        torch.testing.assert_close(found, nn.Conv1d.forward(conv, x))


def test_a_kernel_longer_than_input_and_zeros_is_refused():
    with pytest.raises(RuntimeError):
        Conv1d(4, 8, 5, padding=1)(torch.randn(2, 4, 1))


def test_upsampling_equals_the_transposed_convolution():
    torch.manual_seed(0)
    layer, x = Upsample1d(6), torch.randn(3, 6, 8)
    torch.testing.assert_close(layer(x), nn.ConvTranspose1d.forward(layer, x))


@pytest.mark.parametrize("heads", [Heads(4), Heads(4, 2)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_dropout_drops_weights_and_nothing_else(heads, causal):
    torch.manual_seed(0)
    layer, x = Attention(16, heads, dropout=0.5), torch.randn(3, 6, 16)
    keep = torch.ones(3, 6, dtype=torch.bool)
    keep[1, 4:] = False
    order = torch.arange(6) if causal else torch.zeros(6, dtype=torch.long)
    masks = (CAUSAL if causal else None, block_mask(keep, order))
    wanted = [layer.eval()(x, x, x, mask=mask)[0] for mask in masks]
    layer.train()
    layer.dropout.forward = lambda weights: weights
    for mask, want in zip(masks, wanted, strict=True):
        torch.testing.assert_close(layer(x, x, x, mask=mask)[0], want)
    layer.dropout.forward = torch.zeros_like
    assert torch.equal(layer(x, x, x)[0], layer.out_proj.bias.expand(3, 6, 16))


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize(("shape", "bias"), [((3, 5, 40), True), ((5, 40), False), ((40,), True)])
def test_products_are_linear_maps_with_their_gradients(small, slow, shape, bias, monkeypatch):
    monkeypatch.setattr(product, "WORK", 1)
    monkeypatch.setattr(product, "slow_mkl", lambda: slow)
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    weight = nn.Parameter(torch.randn(24, 8, 5))
    rest = (nn.Parameter(torch.randn(24)),) if bias else ()

    def ours():
        return product.linear(x, weight, *rest)

    def theirs():
        return F.linear(x, weight.flatten(1), *rest)

    torch.testing.assert_close(ours(), theirs())
    context = (x, weight, *rest)
    for mine, other in zip(
        torch.autograd.grad(ours().square().sum(), context),
        torch.autograd.grad(theirs().square().sum(), context),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)

    def twice(function):
        (slope,) = torch.autograd.grad(function().square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), context[:2])

    for mine, other in zip(twice(ours), twice(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-2)
    y = ours()
    many = torch.eye(y.numel()).view(-1, *y.shape)
    each = torch.func.vmap(lambda g: torch.autograd.grad(y, x, g, retain_graph=True)[0])(many)
    expected = torch.autograd.functional.jacobian(lambda x: F.linear(x, weight.flatten(1), *rest), x.detach())
    torch.testing.assert_close(each.view_as(expected), expected, rtol=1e-4, atol=1e-4)
    frozen = weight.detach()
    torch.testing.assert_close(product.linear(x, frozen, *rest), theirs())
    with torch.inference_mode():
        torch.testing.assert_close(ours(), theirs())
        torch.testing.assert_close(product.linear(x, weight.clone(), *rest), theirs())
    _, tangent = torch.func.jvp(lambda x: product.linear(x, weight, *rest), (x.detach(),), (x.detach(),))
    torch.testing.assert_close(tangent, F.linear(x, weight.flatten(1)), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours().dtype == torch.bfloat16


def test_frozen_weights_are_narrowed_once_under_autocast() -> None:
    layer = product.Linear(512, 512).requires_grad_(False)
    x = torch.randn(8, 512, requires_grad=True)

    def found() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        return y, torch.autograd.grad(y.float().sum(), x)[0]

    y, grad = found()
    narrow = layer.weight.bfloat16()
    assert torch.equal(y, F.linear(x.bfloat16(), narrow, layer.bias.bfloat16()))
    torch.testing.assert_close(grad, narrow.float().sum(0).expand(8, -1), rtol=0.02, atol=0.02)
    before = product._narrow._found[layer.weight][2]
    found()
    assert product._narrow._found[layer.weight][2] is before
    layer.weight.mul_(2)
    torch.testing.assert_close(found()[1], 2 * grad, rtol=0.02, atol=0.02)
    count = len(product._narrow)
    trained = product.Linear(512, 512)
    with torch.autocast("cpu", torch.bfloat16):
        trained(x).float().sum().backward()  # type: ignore[no-untyped-call]
    assert trained.weight.grad is not None
    assert len(product._narrow) == count
