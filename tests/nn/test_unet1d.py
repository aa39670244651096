"""The conditional U-Net against the equations written out, the published sizes, and its convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn import UNet1d
from nextmove.nn.conv import Conv1d, Upsample1d, unfolded


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loud(net):
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


def naive(w, config, x, t, vector):
    """Diffusion Policy's U-Net as functions of the weights `w`, one level after another (Chi et al. 2023)."""

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def block(name, h, groups):
        kernel = w[f"{name}.0.weight"].shape[2]
        h = F.conv1d(h, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=kernel // 2)
        return F.mish(F.group_norm(h, groups, w[f"{name}.1.weight"], w[f"{name}.1.bias"]))

    def film(name, h):
        film = linear(f"{name}.film", F.mish(condition))
        y = block(f"{name}.first", h, config.groups)
        if config.scale:
            half = film.shape[1] // 2
            y = film[:, :half, None] * y + film[:, half:, None]
        else:
            y = y + film[:, :, None]
        y = block(f"{name}.second", y, config.groups)
        if f"{name}.skip.weight" in w:
            h = F.conv1d(h, w[f"{name}.skip.weight"], w[f"{name}.skip.bias"])
        return y + h

    parts = []
    for j in range(t.shape[1]):
        half = config.time_width // 2
        frequency = torch.tensor([10000 ** (-i / (half - 1)) for i in range(half)])
        angle = t[:, j : j + 1] * frequency
        embedded = linear(f"times.nets.{j}.0", torch.cat([angle.sin(), angle.cos()], 1))
        parts.append(linear(f"times.nets.{j}.2", F.mish(embedded)))
    condition = torch.cat([sum(parts), vector], 1)
    h, skips, levels = x.transpose(1, 2), [], len(config.widths)
    for i in range(levels):
        h = film(f"down.{i}.second", film(f"down.{i}.first", h))
        skips.append(h)
        if i < levels - 1:
            h = F.conv1d(h, w[f"down.{i}.resample.weight"], w[f"down.{i}.resample.bias"], stride=2, padding=1)
    h = film("middle.1", film("middle.0", h))
    for i in range(levels - 1):
        h = torch.cat([h, skips[levels - 1 - i]], 1)
        h = film(f"up.{i}.second", film(f"up.{i}.first", h))
        h = F.conv_transpose1d(h, w[f"up.{i}.resample.weight"], w[f"up.{i}.resample.bias"], stride=2, padding=1)
    h = block("final", h, config.final_groups)
    return F.conv1d(h, w["head.weight"], w["head.bias"]).transpose(1, 2)


@pytest.mark.parametrize(
    ("config", "horizon", "times"),
    [
        (UNet1d(widths=(16, 32, 64), time_width=16), 8, 1),
        (UNet1d(widths=(8, 24), kernel=3, groups=4, time_width=8, scale=False), 6, 1),
        (UNet1d(widths=(16, 16, 32, 32), groups=2, time_width=8, final_groups=4), 16, 2),
        (UNet1d(widths=(16,), kernel=7, time_width=8), 5, 1),
    ],
)
def test_equals_the_equations(config, horizon, times):
    net = loud(config.build(shape=(horizon, 3), out=3, times=times, context=ContextSpec(vector=7)))
    x, t, vector = torch.randn(2, horizon, 3), torch.tensor([[3.0], [71.0]]).repeat(1, times), torch.randn(2, 7)
    t = t + torch.arange(times)
    expected = naive(net.state_dict(), config, x, t, vector)
    torch.testing.assert_close(net(x, t, Context(2, vector)), expected, rtol=1e-4, atol=1e-4)


def test_every_weight_matters():
    config = UNet1d(widths=(8, 16, 16), time_width=8)
    net = loud(config.build(shape=(4, 2), out=2, times=1, context=ContextSpec(vector=3)))
    x, t, ctx = torch.randn(2, 4, 2), torch.tensor([[1.0], [2.0]]), Context(2, torch.randn(2, 3))
    net(x, t, ctx).square().sum().backward()
    idle = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


def test_tokens_are_read_as_a_vector():
    config = UNet1d(widths=(8, 16), time_width=8)
    net = loud(config.build(shape=(4, 2), out=2, times=1, context=ContextSpec(token=3, tokens=2)))
    x, t, tokens = torch.randn(2, 4, 2), torch.tensor([[1.0], [2.0]]), torch.randn(2, 2, 3)
    expected = naive(net.state_dict(), config, x, t, tokens.flatten(1))
    torch.testing.assert_close(net(x, t, Context(2, tokens=tokens)), expected, rtol=1e-4, atol=1e-4)


def parameters(config, action, context, horizon=16):
    with torch.device("meta"):
        net = config.build(shape=(horizon, action), out=action, times=1, context=ContextSpec(vector=context))
    return sum(parameter.numel() for parameter in net.parameters())


def test_published_sizes():
    # Diffusion Policy's image PushT: two steps of 64 features and 2 positions; 2 actions.
    assert round(parameters(UNet1d((512, 1024, 2048), time_width=128), 2, 132) / 1e6, 1) == 251.5
    # Its low-dimensional PushT: two steps of 20 inputs, as one vector.
    assert round(parameters(UNet1d((256, 512, 1024), time_width=256), 2, 40) / 1e6, 1) == 65.8


def test_zero_film_scale_silences_the_first_block():
    """The scale multiplies as it is: 0 removes what the first block gave, where 1 + scale would keep it."""
    net = loud(UNet1d(widths=(8,), time_width=8).build(shape=(4, 2), out=2, times=1, context=ContextSpec()))
    for module in net.modules():
        if hasattr(module, "film"):
            nn.init.zeros_(module.film.weight)
            nn.init.zeros_(module.film.bias)
    block = net.down[0].first
    x, y = torch.randn(2, 2, 4), torch.randn(2, 2, 4)
    condition = torch.randn(2, 8)
    torch.testing.assert_close(block(x, condition) - block.skip(x), block(y, condition) - block.skip(y))


def test_without_an_input_it_reads_the_context():
    net = loud(UNet1d(widths=(8, 16), time_width=8).build(shape=(4, 0), out=2, times=0, context=ContextSpec(vector=3)))
    one, other = (net(torch.empty(2, 4, 0), None, Context(2, torch.randn(2, 3))) for _ in range(2))
    assert one.shape == (2, 4, 2)
    assert (one - other).abs().max() > 1e-3


def test_a_horizon_it_cannot_halve_is_named():
    with pytest.raises(ValueError, match="multiple of 4 for 3 levels, found 6"):
        UNet1d(widths=(8, 8, 8)).build(shape=(6, 2), out=2, times=1, context=ContextSpec())
    with pytest.raises(ValueError, match="causal"):
        UNet1d(widths=(8,)).build(shape=(4, 2), out=2, times=1, context=ContextSpec(), causal=True)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 1, 2), (3, 2, 1), (1, 1, 0), (4, 2, 1)])
def test_gathered_convolution_equals_conv1d(kernel, stride, padding):
    conv = nn.Conv1d(3, 7, kernel, stride, padding, dtype=torch.float64)
    x = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
    results = []
    for y in (conv(x), unfolded(x, conv.weight, conv.bias, stride, padding)):
        results.append((y, *torch.autograd.grad((y * torch.sin(y)).sum(), (x, conv.weight, conv.bias))))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (Conv1d(4, 8, 5, padding=2), nn.Conv1d(4, 8, 5, padding=2)),
        (Conv1d(8, 8, 3, 2, 1), nn.Conv1d(8, 8, 3, 2, 1)),
        (Conv1d(4, 8, 3, padding=2, dilation=2), nn.Conv1d(4, 8, 3, padding=2, dilation=2)),
        (Conv1d(4, 8, 3, padding=1, groups=2), nn.Conv1d(4, 8, 3, padding=1, groups=2)),
        (Upsample1d(8), nn.ConvTranspose1d(8, 8, 4, 2, 1)),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 8])
def test_convolutions_equal_torchs_with_the_same_weights(ours, plain, length):
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, ours.in_channels, length, requires_grad=True)
    results = []
    for conv in (plain, ours):
        y = conv(x)
        results.append((y, *torch.autograd.grad((y * torch.sin(y)).sum(), (x, conv.weight, conv.bias))))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ours(x)
    torch.testing.assert_close(y.float(), plain(x), rtol=0.05, atol=0.05)
