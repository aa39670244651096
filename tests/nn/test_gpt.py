"""The language model: causality, cached = uncached, positions, prefix."""

import itertools

import pytest
import torch
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.gpt import Gpt

SPECS = [ContextSpec(), ContextSpec(vector=5), ContextSpec(token=3, tokens=4), ContextSpec(5, 3, 4)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def told(spec, batch=2, masked=False):
    vector = torch.randn(batch, spec.vector) if spec.vector else None
    tokens = torch.randn(batch, spec.tokens, spec.token) if spec.token else None
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool) if masked and spec.token else None
    return Context(batch, vector, tokens, mask)


def small(spec, positions="learned", **sizes):
    net = Gpt(width=16, layers=2, heads=4, positions=positions, **sizes).build_tokens(length=7, classes=9, context=spec)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize(
    ("spec", "positions", "masked"), list(itertools.product(SPECS, ["learned", "rotary"], [False, True]))
)
def test_cached_equals_uncached(spec, positions, masked):
    net, ctx, ids = small(spec, positions), told(spec, masked=masked), torch.randint(0, 10, (2, 7))
    expected, full = net(ids, ctx, None)
    prefix = (spec.vector > 0) + spec.tokens
    assert expected.shape == (2, 7, 9)
    assert full[0][0].shape == (2, 4, prefix + 7, 4)
    for cuts in ((1,) * 7, (4, 1, 2)):
        cache, parts = None, []
        for piece in ids.split(list(cuts), 1):
            logits, cache = net(piece, ctx, cache)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(cache, full, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_logits_read_ids_up_to_their_own_and_all_of_the_context(positions):
    spec = SPECS[3]
    net, ctx, ids = small(spec, positions), told(spec), torch.randint(0, 9, (2, 7))
    y = net(ids, ctx, None)[0]
    for i in range(7):
        changed = ids.clone()
        changed[:, i] = (ids[:, i] + 1) % 9
        differs = (net(changed, ctx, None)[0] - y).abs().amax((0, 2)) > 1e-6
        assert differs.tolist() == [j >= i for j in range(7)]
    for other in (ctx.replace(vector=ctx.vector + 1), ctx.replace(tokens=ctx.tokens + 1)):
        assert ((net(ids, other, None)[0] - y).abs().amax((0, 2)) > 1e-6).all()


def test_masked_tokens_are_not_seen():
    spec = SPECS[2]
    net, ctx, ids = small(spec), told(spec, masked=True), torch.randint(0, 9, (2, 7))
    other = ctx.replace(tokens=torch.where(ctx.mask[..., None], ctx.tokens, 100.0))
    torch.testing.assert_close(net(ids, ctx, None)[0], net(ids, other, None)[0])


def test_learned_positions_count_ids_only():
    spec = SPECS[2]
    net, ids = small(spec), torch.randint(0, 9, (2, 3))
    with torch.no_grad():
        net.position[3:] = torch.nan
        net.told.position[2:] = torch.nan
    ctx = told(spec).replace(tokens=torch.randn(2, 2, 3))
    assert net(ids, ctx, None)[0].isfinite().all()
    with pytest.raises(ValueError, match="ids: expected at most 7 in a sequence, found 8"):
        net(torch.zeros(2, 8, dtype=torch.long), ctx, None)


def test_order_matters_and_rotary_has_no_limit():
    ids = torch.tensor([[1, 2, 3, 4]])
    for positions in ("learned", "rotary"):
        net, ctx = small(ContextSpec(), positions), Context.empty(1)
        last = net(ids, ctx, None)[0][:, -1]
        assert not torch.allclose(net(ids[:, [1, 0, 2, 3]], ctx, None)[0][:, -1], last, atol=1e-4)
    assert net(torch.zeros(1, 20, dtype=torch.long), ctx, None)[0].shape == (1, 20, 9)


def test_gpt2_initialisation():
    net = Gpt(width=128, layers=8, heads=4).build_tokens(length=50, classes=99, context=ContextSpec(vector=64))
    assert net.embedding.weight.shape == (100, 128)
    for weight, std in [
        (net.embedding.weight, 0.02),
        (net.position, 0.02),
        (net.head.weight, 0.02),
        (net.blocks[3].attention.in_proj_weight, 0.02),
        (net.blocks[3].up.weight, 0.02),
        (net.blocks[3].down.weight, 0.005),
        (net.blocks[3].attention.out_proj.weight, 0.005),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert net.head.bias.abs().max() == 0
    assert net.head.weight is not net.embedding.weight


@pytest.mark.parametrize("spec", SPECS)
def test_every_parameter_gets_a_gradient_and_bfloat16_runs(spec):
    net = Gpt(width=16, layers=2, heads=4, dropout=0.1).build_tokens(length=7, classes=9, context=spec)
    with torch.autocast("cpu", torch.bfloat16):
        logits, cache = net(torch.randint(0, 10, (2, 6)), told(spec), None)
        logits = logits + net(torch.randint(0, 10, (2, 1)), told(spec), cache)[0]
    assert logits.isfinite().all()
    logits.float().pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_wrong_positions_are_named():
    with pytest.raises(ValueError, match="positions: expected learned or rotary, found 'sine'"):
        Gpt(positions="sine").build_tokens(length=3, classes=4, context=ContextSpec())
