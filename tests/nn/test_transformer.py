"""The action transformer: who sees what, every kind of context, forward-mode derivatives."""

import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.transformer import Transformer

SMALL = Transformer(width=16, layers=2, heads=4)
VECTOR, TOKENS, BOTH = ContextSpec(vector=5), ContextSpec(token=3, tokens=2), ContextSpec(5, 3, 2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def context_of(spec, batch=2):
    vector = torch.randn(batch, spec.vector) if spec.vector else None
    tokens = torch.randn(batch, spec.tokens, spec.token) if spec.token else None
    return Context(batch, vector, tokens)


def loud(net):
    """Positions and weights large enough that every path shows."""
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize(
    ("spec", "times", "actions"),
    list(itertools.product([VECTOR, TOKENS, BOTH, ContextSpec()], [0, 1, 2], [0, 4])),
)
def test_shapes_and_gradients_of_every_parameter(spec, times, actions):
    net = SMALL.build(shape=(6, actions), out=3, times=times, context=spec)
    t = torch.rand(2, times) if times else None
    y = net(torch.randn(2, 6, actions), t, context_of(spec))
    assert y.shape == (2, 6, 3)
    y.pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert net.head.weight.grad.abs().sum() > 0


def sees(net, x, t, ctx, read):
    """(H, n) bool: does the squared output at step i depend on `read`[:, j]."""
    rows = []
    for i in range(x.shape[1]):
        y = net(x, t, ctx)[:, i].pow(2).sum()
        (grad,) = torch.autograd.grad(y, read, allow_unused=True)
        rows.append(grad.abs().sum((0, 2)) > 0)
    return torch.stack(rows)


def test_actions_see_earlier_actions_only_if_causal():
    x, t, ctx = torch.randn(2, 6, 4, requires_grad=True), torch.rand(2, 1), context_of(VECTOR)
    past = torch.ones(6, 6, dtype=torch.bool).tril()
    build = {"shape": (6, 4), "out": 3, "times": 1, "context": VECTOR}
    assert torch.equal(sees(loud(SMALL.build(**build)), x, t, ctx, x), past)
    free = Transformer(width=16, layers=2, heads=4, causal=False)
    assert sees(loud(free.build(**build)), x, t, ctx, x).all()
    assert torch.equal(sees(loud(free.build(**build, causal=True)), x, t, ctx, x), past)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_action_i_sees_observations_up_to_step_i(times):
    spec = ContextSpec(token=3, tokens=4)
    ctx = context_of(spec)
    ctx.tokens.requires_grad_()
    t = torch.rand(2, times, requires_grad=True) if times else None
    net = loud(SMALL.build(shape=(6, 4), out=3, times=times, context=spec))
    x = torch.randn(2, 6, 4)
    assert torch.equal(sees(net, x, t, ctx, ctx.tokens), torch.ones(6, 4, dtype=torch.bool).tril())
    if t is not None:
        for i in range(6):
            assert torch.autograd.grad(net(x, t, ctx)[:, i].sum(), t)[0].ne(0).all()


def test_without_one_token_a_step_the_whole_context_is_seen():
    for spec in (BOTH, ContextSpec(token=3, tokens=9)):
        ctx = context_of(spec)
        ctx.tokens.requires_grad_()
        net = loud(SMALL.build(shape=(6, 4), out=3, times=1, context=spec))
        assert sees(net, torch.randn(2, 6, 4), torch.rand(2, 1), ctx, ctx.tokens).all()


def test_context_mask_hides_tokens_and_memory_layers_obey_it():
    for layers in (0, 1):
        net = loud(
            Transformer(16, 2, 4, memory_layers=layers, causal=False).build(
                shape=(6, 4), out=3, times=1, context=TOKENS
            )
        )
        ctx, x, t = context_of(TOKENS), torch.randn(2, 6, 4), torch.rand(2, 1)
        hidden = ctx.replace(mask=torch.tensor([[True, False], [True, True]]))
        other = hidden.replace(tokens=ctx.tokens + torch.tensor([0.0, 9.0])[None, :, None])
        torch.testing.assert_close(net(x, t, hidden)[0], net(x, t, other)[0])
        assert not torch.allclose(net(x, t, hidden)[1], net(x, t, other)[1])
        short = ctx.replace(tokens=ctx.tokens[:, :1])
        torch.testing.assert_close(net(x, t, hidden)[0], net(x, t, short)[0])


def test_each_time_and_order_of_tokens_matter():
    net = loud(Transformer(16, 2, 4, causal=False).build(shape=(6, 4), out=3, times=2, context=TOKENS))
    x, t, ctx = torch.randn(2, 6, 4), torch.rand(2, 2), context_of(TOKENS)
    y = net(x, t, ctx)
    assert not torch.allclose(y, net(x, t.flip(1), ctx), atol=1e-5)
    assert not torch.allclose(y, net(x, t, ctx.replace(tokens=ctx.tokens.flip(1))), atol=1e-5)


def torch_name(name):
    """A name of our decoder as torch calls it."""
    name = (
        name.replace("blocks.", "layers.").replace(".attention.", ".self_attn.").replace(".cross.", ".multihead_attn.")
    )
    for i, part in enumerate(("attention", "cross", "feedforward"), 1):
        name = name.replace(f"{part}_branch.norm", f"norm{i}")
    return name.replace("feedforward.up", "linear1").replace("feedforward.down", "linear2")


def test_matches_pytorch_decoder_on_equal_weights():
    net = loud(SMALL.build(shape=(6, 4), out=3, times=1, context=TOKENS))
    layer = torch.nn.TransformerDecoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = torch.nn.TransformerDecoder(layer, 2, torch.nn.LayerNorm(16)).eval()
    theirs.load_state_dict({torch_name(k): v for k, v in net.decoder.state_dict().items()})
    x, t, ctx = torch.randn(2, 6, 4), torch.rand(2, 1), context_of(TOKENS)
    memory = torch.cat([net.times(t)[:, None], net.context.token(ctx.tokens)], 1) + net.context.position
    i, s = torch.arange(6)[:, None], torch.arange(3)[None]
    blocked = torch.arange(6)[:, None] < torch.arange(6)[None]
    h = theirs(net.input(x) + net.position, net.memory(memory), tgt_mask=blocked, memory_mask=~(i >= s - 1))
    torch.testing.assert_close(net(x, t, ctx), net.head(h))


def test_forward_mode_derivative_equals_the_difference_quotient():
    net = loud(SMALL.build(shape=(6, 4), out=4, times=2, context=TOKENS)).double()
    x, v = torch.randn(2, 6, 4).double(), torch.randn(2, 6, 4).double()
    memory = context_of(TOKENS)
    ctx = memory.replace(tokens=memory.tokens.double())
    net.times.float()  # sinusoids are float32; their network answers in float32
    t = torch.rand(2, 2)
    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(lambda x: net(x, t, ctx), (x,), (v,))
    with torch.no_grad():
        quotient = (net(x + 1e-6 * v, t, ctx) - net(x - 1e-6 * v, t, ctx)) / 2e-6
    torch.testing.assert_close(tangent, quotient, atol=1e-6, rtol=1e-5)
    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(lambda t: net(x, t, ctx), (t,), (torch.ones_like(t),))
    assert tangent.isfinite().all()
    assert tangent.abs().sum() > 0


def test_bfloat16_autocast():
    net = SMALL.build(shape=(6, 4), out=3, times=1, context=BOTH)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 6, 4), torch.rand(2, 1), context_of(BOTH))
    y.float().sum().backward()
    assert y.isfinite().all()


def test_what_is_missing_is_named():
    net = SMALL.build(shape=(6, 4), out=3, times=1, context=BOTH)
    x, t, ctx = torch.randn(2, 6, 4), torch.rand(2, 1), context_of(BOTH)
    with pytest.raises(ValueError, match=r"context.vector: expected width 5, found none"):
        net(x, t, ctx.replace(vector=None))
    with pytest.raises(ValueError, match=r"context.tokens: expected at most 2 tokens, found none"):
        net(x, t, ctx.replace(tokens=None))
    with pytest.raises(ValueError, match="found 3"):
        net(x, t, ctx.replace(tokens=torch.randn(2, 3, 3)))
    with pytest.raises(ValueError, match="t: expected the times"):
        net(x, None, ctx)
    with pytest.raises(ValueError, match=r"context.tokens: expected the largest number"):
        SMALL.build(shape=(6, 4), out=3, times=1, context=ContextSpec(token=3))
