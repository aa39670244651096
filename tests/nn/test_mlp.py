"""The MLP trunks against their equations written out."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn import Mlp, PlainMlp, count

SPEC = ContextSpec(vector=5, token=3, tokens=2)


def loud(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)
    return net.eval()


def inputs():
    return (
        torch.randn(2, 4, 3),
        torch.tensor([[0.2, 3.0], [0.7, 40.0]]),
        Context(2, torch.randn(2, 5), torch.randn(2, 2, 3)),
    )


def linear(w, name, h):
    return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w, name, h):
    centred = h - h.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def wave(t, width):
    angle = t[:, None] * torch.tensor([math.exp(-math.log(10000) * i / (width // 2 - 1)) for i in range(width // 2)])
    return torch.cat([angle.sin(), angle.cos()], 1)


def test_residual_mlp_equals_its_equations():
    net = loud(Mlp(width=16, depth=3, time_width=8).build(shape=(4, 3), out=2, times=2, context=SPEC, causal=False))
    w, (x, t, ctx) = net.state_dict(), inputs()
    time = sum(
        linear(w, f"times.nets.{j}.2", F.silu(linear(w, f"times.nets.{j}.0", wave(t[:, j], 8)))) for j in range(2)
    )
    h = linear(w, "input", torch.cat([x.flatten(1), ctx.vector, ctx.tokens.flatten(1)], 1))
    for i in range(3):
        block = f"blocks.{i}"
        inner = normed(w, f"{block}.norm", h + linear(w, f"{block}.time", F.silu(time)))
        h = h + linear(w, f"{block}.second", F.silu(linear(w, f"{block}.first", inner)))
    expected = linear(w, "head", normed(w, "norm", h)).reshape(2, 4, 2)
    torch.testing.assert_close(net(x, t, ctx), expected, rtol=1e-4, atol=1e-4)


def test_plain_mlp_equals_its_equations():
    net = loud(PlainMlp(widths=(16, 24)).build(shape=(4, 3), out=2, times=2, context=SPEC, causal=False))
    w, (x, t, ctx) = net.state_dict(), inputs()
    time = sum(
        linear(w, f"times.nets.{j}.2", F.mish(linear(w, f"times.nets.{j}.0", wave(t[:, j], 64)))) for j in range(2)
    )
    h = torch.cat([x.flatten(1), ctx.vector, ctx.tokens.flatten(1), time], 1)
    for i in (0, 2):
        h = linear(w, f"layers.{i}", h).clamp_min(0)
    torch.testing.assert_close(net(x, t, ctx), linear(w, "layers.4", h).reshape(2, 4, 2), rtol=1e-4, atol=1e-4)


def test_sizes():
    """Linear maps, and nothing else of weight: 4 blocks of two layers 512 wide; robomimic's two of 1024."""
    with torch.device("meta"):
        residual = Mlp().build(shape=(16, 2), out=2, times=1, context=ContextSpec(vector=84), causal=False)
        plain = PlainMlp().build(shape=(1, 0), out=7, times=0, context=ContextSpec(vector=19), causal=False)
    blocks = 4 * (2 * (512 * 512 + 512) + (128 * 512 + 512) + 2 * 512)
    times = (64 * 128 + 128) + (128 * 128 + 128)
    ends = (32 + 84) * 512 + 512 + 2 * 512 + 512 * 32 + 32
    assert count(residual) == blocks + times + ends
    assert count(plain) == 19 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 7 + 7
