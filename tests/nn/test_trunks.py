"""What every trunk of policies must do, by list: read any context, take any number of times, learn everywhere."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nextmove.contracts import Context, ContextSpec
from nextmove.nn import Detr, Gpt, Lstm, Mlp, PlainMlp, Transformer, UNet1d, count

B, H, A, OUT = 3, 8, 2, 5
TRUNKS = {
    "mlp": Mlp(width=32, depth=2, time_width=8),
    "plain-mlp": PlainMlp(widths=(32, 32)),
    "unet1d": UNet1d(widths=(16, 32), time_width=8),
    "transformer": Transformer(width=32, layers=2, heads=4),
    # Without the kinks of its published "relu", which difference quotients step over.
    "detr": Detr(width=32, heads=4, feedforward=48, encoder_layers=2, decoder_layers=2, dropout=0.0, activation="gelu"),
    "lstm": Lstm(width=24, layers=2),
    "gpt": Gpt(width=32, layers=2, heads=4),
}
SPECS = {
    "vector": ContextSpec(vector=6),
    "tokens": ContextSpec(token=4, tokens=H),
    "both": ContextSpec(vector=6, token=4, tokens=H),
}
# The LSTM reads one observed step per action: it has no use for a vector alone.
CASES = [(trunk, spec) for trunk in TRUNKS for spec in SPECS if (trunk, spec) != ("lstm", "vector")]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loud(net):
    """Weights without zeros, so that nothing is hidden behind a start at zero."""
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)
    return net


def asked(spec, actions=A, times=1, dtype=torch.float32):
    tokens = torch.randn(B, spec.tokens, spec.token, dtype=dtype) if spec.token else None
    vector = torch.randn(B, spec.vector, dtype=dtype) if spec.vector else None
    t = 10 * torch.rand(B, times) if times else None
    return torch.randn(B, H, actions, dtype=dtype), t, Context(B, vector, tokens)


def built(trunk, spec, actions=A, times=1):
    return loud(TRUNKS[trunk].build(shape=(H, actions), out=OUT, times=times, context=SPECS[spec], causal=False))


@pytest.mark.parametrize("actions", [0, A])
@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize(("trunk", "spec"), CASES)
def test_every_weight_learns_and_every_input_counts(trunk, spec, times, actions):
    net = built(trunk, spec, actions, times)
    x, t, ctx = asked(SPECS[spec], actions, times)
    y = net(x, t, ctx)
    assert y.shape == (B, H, OUT)
    assert y.dtype == torch.float32
    # Where a gradient is zero by the equations, rounding leaves a little: in float64 too little to count.
    net, x, t, ctx = net.double(), x.double(), None if t is None else t.double(), ctx.map(torch.Tensor.double)
    inputs = [part.requires_grad_() for part in (x, t, ctx.vector, ctx.tokens) if part is not None and part.numel()]
    net(x, t, ctx).square().sum().backward()
    least = 1e-7 * max(weight.grad.abs().max() for weight in net.parameters() if weight.grad is not None)
    idle = [name for name, weight in net.named_parameters() if weight.grad is None or weight.grad.abs().max() < least]
    assert idle == expected_idle(trunk, spec, times, actions)
    assert all(part.grad.flatten(1).any(1).all() for part in inputs)


def expected_idle(trunk, spec, times, actions):
    """What no answer depends on, by the equations: how one asks where there is but one answer."""
    if trunk == "detr" and not actions:
        # The first self-attention reads zeros, all of whose values are alike.
        return ["decoder.blocks.0.attention.in_proj_weight"]
    if trunk == "transformer" and spec == "vector" and not times:
        # The memory is one token, and what asks for it is normalised here.
        return [f"decoder.blocks.{i}.cross_branch.norm.{part}" for i in range(2) for part in ("weight", "bias")]
    return []


@pytest.mark.parametrize(("trunk", "spec"), CASES)
def test_rows_do_not_see_each_other(trunk, spec):
    net = built(trunk, spec).eval()
    x, t, ctx = asked(SPECS[spec])
    y = net(x, t, ctx)
    one = net(x[1:2], t[1:2], ctx.map(lambda part: part[1:2]))
    torch.testing.assert_close(one, y[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_computes_in_the_dtype_of_its_weights(trunk, dtype):
    net = built(trunk, "both").eval()
    x, t, ctx = asked(SPECS["both"])
    expected = net(x, t, ctx)
    cast = ctx.map(lambda part: part.to(dtype))
    y = net.to(dtype)(x.to(dtype), t, cast)
    assert y.dtype == dtype
    scale = expected.std().item()
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=scale * (1e-4 if dtype == torch.float64 else 0.5))


@pytest.mark.parametrize("actions", [0, A])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_trains_under_bf16_autocast(trunk, actions):
    net = TRUNKS[trunk].build(shape=(H, actions), out=OUT, times=1, context=SPECS["both"], causal=False)
    x, t, ctx = asked(SPECS["both"], actions)
    expected = net(x, t, ctx)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x, t, ctx)
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)


@pytest.mark.parametrize(("trunk", "spec"), CASES)
def test_steps_of_the_horizon_differ_without_an_input(trunk, spec):
    """A chunk of equal actions would follow from a network that can't tell its steps apart."""
    net = built(trunk, spec, actions=0, times=0).eval()
    x, t, ctx = asked(SPECS[spec], actions=0, times=0)
    y = net(x, t, ctx)
    assert ((y[:, 1:] - y[:, :-1]).abs().amax(2) > 1e-4 * y.std()).all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("trunk", ["mlp", "plain-mlp", "unet1d", "transformer", "detr"])
def test_forward_mode_derivative_equals_the_difference_quotient(trunk, spec):
    net = built(trunk, spec, times=2).double().eval()
    x, t, ctx = asked(SPECS[spec], times=2, dtype=torch.float64)
    # Sinusoids are taken in float32: the step must be large enough to be seen by them.
    v, e = torch.randn_like(x), 1e-2
    turn = torch.stack([torch.ones(B), -torch.ones(B)], 1)

    def at(x, t):
        return net(x, t, ctx)

    with sdpa_kernel(SDPBackend.MATH):
        y, slope = torch.func.jvp(at, (x, t), (v, turn))
    torch.testing.assert_close(y, at(x, t), rtol=1e-6, atol=1e-6)
    # Fourth order in the step.
    near, far = (at(x + s * v, t + s * turn) - at(x - s * v, t - s * turn) for s in (e, 2 * e))
    quotient = (8 * near - far) / (12 * e)
    torch.testing.assert_close(slope, quotient, rtol=1e-2, atol=1e-2 * slope.std().item())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_network_without_its_time_says_so(trunk):
    net = built(trunk, "tokens")
    x, _, ctx = asked(SPECS["tokens"])
    with pytest.raises(ValueError, match="t: expected the times the network was built for, found none"):
        net(x, None, ctx)
    with pytest.raises(ValueError, match=r"t: expected \(B, 1\), found \(3, 2\)"):
        net(x, torch.rand(B, 2), ctx)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_missing_context_is_named(trunk):
    x, t, ctx = asked(SPECS["both"])
    for name in ("vector", "tokens"):
        with pytest.raises(ValueError, match=f"context.{name}: expected"):
            built(trunk, "both")(x, t, ctx.replace(**{name: None}))


@pytest.mark.parametrize("trunk", ["mlp", "plain-mlp", "unet1d", "transformer", "detr"])
def test_masked_tokens_are_not_read(trunk):
    net = built(trunk, "tokens").eval()
    x, t, ctx = asked(SPECS["tokens"])
    mask = torch.ones(B, H, dtype=torch.bool)
    mask[:, 5:] = False
    other = ctx.tokens.clone()
    other[:, 5:] = torch.nan if trunk in ("mlp", "plain-mlp", "unet1d") else 7.0
    expected = net(x, t, ctx.replace(mask=mask))
    torch.testing.assert_close(net(x, t, ctx.replace(tokens=other, mask=mask)), expected, rtol=1e-5, atol=1e-5)
    other[:, 4] = 7.0
    assert (net(x, t, ctx.replace(tokens=other.nan_to_num(), mask=mask)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("trunk", ["mlp", "plain-mlp", "unet1d"])
def test_an_unknown_number_of_tokens_cannot_be_flattened(trunk):
    with pytest.raises(ValueError, match=r"context\.tokens: expected a fixed number"):
        TRUNKS[trunk].build(shape=(H, A), out=A, times=1, context=ContextSpec(token=4), causal=False)


def test_nothing_to_be_conditioned_on_is_named():
    with pytest.raises(ValueError, match="context: expected a time"):
        UNet1d(widths=(8,)).build(shape=(H, A), out=A, times=0, context=ContextSpec(), causal=False)


@pytest.mark.parametrize("trunk", ["mlp", "plain-mlp", "unet1d"])
def test_what_sees_everything_at_once_cannot_be_causal(trunk):
    with pytest.raises(ValueError, match="cannot be causal"):
        TRUNKS[trunk].build(shape=(H, A), out=A, times=1, context=SPECS["vector"], causal=True)


def test_count_is_the_number_of_weights():
    tied = nn.Linear(3, 4)
    assert count(nn.ModuleList([tied, tied, nn.Linear(2, 1, bias=False)])) == 3 * 4 + 4 + 2
