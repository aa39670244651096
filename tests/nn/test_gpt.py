"""The language model: causality, cached = uncached, positions, prefix."""

import itertools

import pytest
import torch
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.gpt import Gpt
from nextmove.nn.mask import block_mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.rope import RopeScaling, Rotary

SPECS = [ContextSpec(), ContextSpec(vector=5), ContextSpec(token=3, tokens=4), ContextSpec(5, 3, 4)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
    torch.set_grad_enabled(True)


MODERN = {
    "heads": Heads(4, 2, bias=False, out_bias=False, norm=RmsNorm()),
    "positions": "rotary",
    "norm": RmsNorm(),
    "feedforward": GatedMlp(),
    "head": "plain",
}


def context_of(spec, batch=2, masked=False):
    vector = torch.randn(batch, spec.vector) if spec.vector else None
    tokens = torch.randn(batch, spec.tokens, spec.token) if spec.token else None
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool) if masked and spec.token else None
    return Context(batch, vector, tokens, mask)


def parts_of(memory):
    """Keys and values of all layers."""
    return [part for layer in memory.layers for part in (layer.keys, layer.values)]


def small(spec, positions="learned", **parts):
    parts = MODERN if positions == "modern" else {"positions": positions, "heads": 4, **parts}
    net = Gpt(width=16, layers=2, **parts).build_tokens(length=7, classes=9, context=spec)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize(
    ("spec", "positions", "masked"),
    list(itertools.product(SPECS, ["learned", "rotary", "modern", "alibi"], [False, True])),
)
@pytest.mark.parametrize("grad", [True, False])
def test_cached_equals_uncached(spec, positions, masked, grad):
    torch.set_grad_enabled(grad)
    net, ctx, ids = small(spec, positions), context_of(spec, masked=masked), torch.randint(0, 10, (2, 7))
    expected, full = net(ids, ctx, None)
    prefix = (spec.vector > 0) + spec.tokens
    assert expected.shape == (2, 7, 9)
    assert full.layers[0].keys.shape == (2, 2 if positions == "modern" else 4, prefix + 7, 4)
    for cuts in ((1,) * 7, (4, 1, 2)):
        cache, parts = None, []
        for piece in ids.split(list(cuts), 1):
            last = net.last(piece, ctx, cache)[0]
            logits, cache = net(piece, ctx, cache)
            torch.testing.assert_close(last, logits[:, -1:])
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(parts_of(cache), parts_of(full), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary", "modern", "alibi"])
@pytest.mark.parametrize("spec", SPECS)
def test_embeddings_from_outside_give_the_logits_of_ids(spec, positions):
    net, ids, ctx = small(spec, positions), torch.randint(9, (2, 7)), context_of(spec)
    whole, _ = net(ids, ctx)
    with torch.no_grad():
        h, _ = net.read_embedded(net.embed(ids), ctx)
        assert torch.equal(net.logits(h), whole)
        # In parts, with positions that are said or left to the cache.
        for said in (False, True):
            at = [torch.arange(0, 3), torch.arange(3, 7)] if said else [None, None]
            first, cache = net.read_embedded(net.embed(ids[:, :3]), ctx, positions=at[0])
            last, _ = net.read_embedded(net.embed(ids[:, 3:]), ctx, cache, positions=at[1])
            torch.testing.assert_close(net.logits(torch.cat([first, last], 1)), whole, atol=1e-5, rtol=1e-5)
        other = net.embed(ids)
        other[:, 2] += torch.randn(16)
        changed = net.logits(net.read_embedded(other, ctx)[0])
    assert torch.equal(changed[:, :2], whole[:, :2])
    assert not torch.allclose(changed[:, 2], whole[:, 2])


@pytest.mark.parametrize("positions", ["learned", "rotary", "modern", "alibi"])
@torch.no_grad()
def test_padding_between_and_before_is_not_counted(positions):
    net, ids, ctx = small(ContextSpec(), positions), torch.randint(9, (2, 5)), Context.empty(2)
    # Row 0 has its padding in front and row 1 in the middle.
    valid = torch.tensor([[0, 0, 1, 1, 1], [1, 0, 0, 1, 1]], dtype=torch.bool)
    whole, _ = net(ids[valid].view(2, 3), ctx)
    x = net.embed(ids)
    h, _ = net.read_embedded(x, ctx, valid=valid)
    torch.testing.assert_close(net.logits(h)[valid].view(2, 3, -1), whole, atol=1e-5, rtol=1e-5)
    _, cache = net.read_embedded(x[:, :4], ctx, valid=valid[:, :4])
    last, _ = net.read_embedded(x[:, 4:], ctx, cache)
    torch.testing.assert_close(net.logits(last)[:, 0], whole[:, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
@torch.no_grad()
def test_a_prefix_that_sees_itself_whole_is_a_block_of_the_mask(positions):
    net, ids, ctx = small(ContextSpec(), positions), torch.randint(9, (2, 6)), Context.empty(2)
    valid = torch.tensor([[1] * 6, [0, 1, 1, 1, 1, 1]], dtype=torch.bool)
    mask = block_mask(valid, torch.tensor([0, 0, 0, 1, 2, 3]))
    x = net.embed(ids)
    whole = net.read_embedded(x, ctx, mask=mask, valid=valid)[0]
    prefix, cache = net.read_embedded(x[:, :3], ctx, mask=None, valid=valid[:, :3])
    suffix, _ = net.read_embedded(x[:, 3:], ctx, cache)
    read = torch.cat([prefix, suffix], 1)
    torch.testing.assert_close(read[valid], whole[valid], atol=1e-5, rtol=1e-5)
    other = x.clone()
    other[:, 2] += torch.randn(16)
    changed = net.read_embedded(other, ctx, mask=mask, valid=valid)[0]
    assert not torch.allclose(changed[:, 1], whole[:, 1])
    assert not torch.allclose(whole, net.read_embedded(x, ctx, valid=valid)[0])


def test_a_cache_can_be_gone_on_from_twice():
    net, ctx, ids = small(ContextSpec()), Context.empty(2), torch.randint(0, 9, (2, 6))
    with torch.no_grad():
        cache = net(ids[:, :3], ctx, None)[1]
        kept = [part.clone() for part in parts_of(cache)]
        first, after = net(ids[:, 3:4], ctx, cache)
        other, _ = net((ids[:, 3:4] + 1) % 9, ctx, cache)
        again, _ = net(ids[:, 3:4], ctx, cache)
        onwards, _ = net(ids[:, 4:5], ctx, after)
    assert all(torch.equal(part, old) for part, old in zip(parts_of(cache), kept, strict=True))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other, atol=1e-4)
    torch.testing.assert_close(onwards, net(ids[:, :5], ctx, None)[0][:, -1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary", "modern", "alibi"])
def test_logits_read_ids_up_to_their_own_and_all_of_the_context(positions):
    spec = SPECS[3]
    net, ctx, ids = small(spec, positions), context_of(spec), torch.randint(0, 9, (2, 7))
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
    net, ctx, ids = small(spec), context_of(spec, masked=True), torch.randint(0, 9, (2, 7))
    other = ctx.replace(tokens=torch.where(ctx.mask[..., None], ctx.tokens, 100.0))
    torch.testing.assert_close(net(ids, ctx, None)[0], net(ids, other, None)[0])


def test_learned_positions_count_ids_only():
    spec = SPECS[2]
    net, ids = small(spec), torch.randint(0, 9, (2, 3))
    with torch.no_grad():
        net.position[3:] = torch.nan
        net.context.position[2:] = torch.nan
    ctx = context_of(spec).replace(tokens=torch.randn(2, 2, 3))
    assert net(ids, ctx, None)[0].isfinite().all()
    with pytest.raises(ValueError, match="ids: expected at most 7 in a sequence, found 8"):
        net(torch.zeros(2, 8, dtype=torch.long), ctx, None)


def test_order_matters_and_only_learned_positions_have_a_limit():
    ids = torch.tensor([[1, 2, 3, 4]])
    for positions in ("learned", "rotary", "alibi"):
        net, ctx = small(ContextSpec(), positions), Context.empty(1)
        last = net(ids, ctx, None)[0][:, -1]
        assert not torch.allclose(net(ids[:, [1, 0, 2, 3]], ctx, None)[0][:, -1], last, atol=1e-4)
        if positions != "learned":
            assert net(torch.zeros(1, 20, dtype=torch.long), ctx, None)[0].shape == (1, 20, 9)


def test_gpt2_initialisation():
    net = Gpt(width=128, layers=8, heads=4).build_tokens(length=50, classes=99, context=ContextSpec(vector=64))
    assert net.embedding.weight.shape == (100, 128)
    for weight, std in [
        (net.embedding.weight, 0.02),
        (net.position, 0.02),
        (net.head.weight, 0.02),
        (net.stream.blocks[3].attention.in_proj_weight, 0.02),
        (net.stream.blocks[3].feedforward.up.weight, 0.02),
        (net.stream.blocks[3].feedforward.down.weight, 0.005),
        (net.stream.blocks[3].attention.out_proj.weight, 0.005),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert net.head.bias.abs().max() == 0
    assert net.head.weight is not net.embedding.weight


@pytest.mark.parametrize("parts", [{}, MODERN, {"head": "tied"}, {"positions": "alibi"}])
@pytest.mark.parametrize("spec", SPECS)
def test_every_parameter_gets_a_gradient_and_bfloat16_runs(spec, parts):
    net = Gpt(width=16, layers=2, dropout=0.1, **parts).build_tokens(length=7, classes=9, context=spec)
    with torch.autocast("cpu", torch.bfloat16):
        logits, cache = net(torch.randint(0, 10, (2, 6)), context_of(spec), None)
        logits = logits + net(torch.randint(0, 10, (2, 1)), context_of(spec), cache)[0]
    assert logits.isfinite().all()
    logits.float().pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"positions": "sine"}, "positions: expected learned, rotary or alibi, found 'sine'"),
        ({"head": "none"}, "head: expected biased, plain or tied, found 'none'"),
        ({"feedforward": DenseMlp(activation="tanh")}, "activation: expected one of gelu, .*, found 'tanh'"),
        ({"heads": 5}, "heads: expected a divisor of width 192, found 5"),
        ({"heads": Heads(4, 3)}, r"heads\.n_kv_heads: expected a divisor of 4 heads, found 3"),
    ],
)
def test_wrong_parts_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Gpt(**wrong).build_tokens(length=3, classes=4, context=ContextSpec())


def test_embeddings_that_cannot_be_placed_are_named():
    net = small(SPECS[1])
    x, valid = torch.zeros(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="positions: expected those of x, which has padding beside a context"):
        net.read_embedded(x, context_of(SPECS[1]), valid=valid)
    with pytest.raises(ValueError, match="ids: expected at most 7 in a sequence, found 8"):
        net.read_embedded(x, context_of(SPECS[1]), positions=torch.arange(3, 8))


def test_a_tied_head_is_the_embedding_without_the_start_symbol():
    net = small(ContextSpec(), head="tied")
    ids = torch.randint(0, 10, (2, 5))
    h = net.read(ids, Context.empty(2))[0]
    torch.testing.assert_close(net(ids, Context.empty(2))[0], h @ net.embedding.weight[:9].T)
    assert not any(name.startswith("head") for name in net.state_dict())
    bare = Gpt(head="tied").build_tokens(length=7, classes=9, context=ContextSpec(), start=False)
    assert bare.embedding.weight.shape[0] == 9


def test_one_modern_block_equals_the_equations():
    net = Gpt(
        width=8, layers=1, embed_scale=2.0, **{**MODERN, "heads": Heads(2, 1, bias=False, out_bias=False, scale=0.3)}
    )
    net = net.build_tokens(length=7, classes=9, context=ContextSpec())
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    block, ids = net.stream.blocks[0], torch.randint(0, 10, (1, 3))

    def rms(x, gain):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    def rotated(x):
        out = x.clone()
        for i in range(3):
            for j in range(2):
                angle = torch.tensor(i / 10000 ** (2 * j / 4))
                a, b = x[i, j], x[i, j + 2]
                out[i, j], out[i, j + 2] = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
        return out

    x = 2 * net.embedding.weight[ids[0]]
    q1, q2, k, v = (rms(x, block.attention_branch.norm.weight) @ block.attention.in_proj_weight.T).split(4, 1)
    heads = []
    for q in (q1, q2):
        score = (0.3 * rotated(q) @ rotated(k).T).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf)
        heads.append(score.softmax(1) @ v)
    x = x + torch.cat(heads, 1) @ block.attention.out_proj.weight.T
    gate, up = (rms(x, block.feedforward_branch.norm.weight) @ block.feedforward.up.weight.T).chunk(2, 1)
    x = x + (gate * gate.sigmoid() * up) @ block.feedforward.down.weight.T
    expected = rms(x, net.stream.norm.weight) @ net.head.weight.T
    torch.testing.assert_close(net(ids, Context.empty(1))[0][0], expected, atol=1e-5, rtol=1e-5)


def test_norms_and_units_are_what_they_say():
    x = torch.randn(3, 8)
    offset = RmsNorm(eps=1e-6, offset=1.0).build(8)
    plain = RmsNorm(eps=1e-6).build(8)
    torch.testing.assert_close(offset(x), plain(x))
    nn.init.constant_(offset.weight, 0.5)
    torch.testing.assert_close(offset(x), 1.5 * plain(x))
    assert not list(RmsNorm(gain=False).build(8).parameters())
    assert LayerNorm(bias=False).build(8).bias is None
    for name, expected in {
        "relu2": x.clamp_min(0) ** 2,
        "quick_gelu": x * (1.702 * x).sigmoid(),
        "silu": x * x.sigmoid(),
        "gelu_tanh": 0.5 * x * (1 + (0.7978845608 * (x + 0.044715 * x**3)).tanh()),
    }.items():
        part = DenseMlp(8, name).build(8)
        for layer in (part.up, part.down):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        torch.testing.assert_close(part(x), expected, atol=1e-5, rtol=1e-5)


def test_scaled_rotary_lowers_low_frequencies_only():
    positions = torch.tensor([1.0])
    plain = torch.atan2(*reversed(Rotary(100.0).angles(positions, 8)))[0]
    inv_freq = torch.tensor([100.0 ** -(j / 4) for j in range(4)])
    torch.testing.assert_close(plain, inv_freq)
    scaling = RopeScaling(8.0, original_length=128, low_freq=1.0, high_freq=4.0)
    turns = 128 * inv_freq / (2 * torch.pi)  # 20.4, 6.4, 2.04, 0.64
    share = (turns[2] - 1) / 3
    expected = torch.stack(
        [inv_freq[0], inv_freq[1], (1 - share) * inv_freq[2] / 8 + share * inv_freq[2], inv_freq[3] / 8]
    )
    torch.testing.assert_close(scaling.scaled(inv_freq), expected)
    torch.testing.assert_close(RopeScaling(2.0).scaled(inv_freq), inv_freq / 2)
    with pytest.raises(ValueError, match="low_freq: expected less than high"):
        RopeScaling(8.0, 128, 4.0, 4.0)


def test_numbers_and_ids_are_generated_by_layers_of_one_size():
    config, spec = Gpt(width=32, layers=2, heads=4), ContextSpec(vector=6)
    ids = config.build_tokens(length=48, classes=256, context=spec)
    ways = {"ids": ids.state_dict()}
    for name, actions, times in (("denoised", 4, 1), ("named", 0, 0)):
        net = config.build(shape=(16, actions), out=4, times=times, context=spec)
        ways[name] = {key.removeprefix("net."): value for key, value in net.state_dict().items()}
    shared = [key for key in ways["ids"] if key.startswith(("stream.", "context."))]
    for found in ways.values():
        assert [key for key in found if key in shared] == shared
        assert all(found[key].shape == ways["ids"][key].shape for key in shared)
        own = {key.partition(".")[0] for key in found} - {"stream", "context"}
        assert own <= {"embedding", "head", "position", "times"}


@pytest.mark.parametrize("causal", [False, True])
def test_a_chunk_sees_the_context_and_itself_in_its_order(causal):
    torch.manual_seed(0)
    spec = ContextSpec(vector=3, token=4, tokens=5)
    net = Gpt(width=32, layers=2, heads=4).build(shape=(6, 2), out=2, times=1, context=spec, causal=causal)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    ctx = Context(2, torch.randn(2, 3), torch.randn(2, 5, 4), mask)
    x, t = torch.randn(2, 6, 2), torch.rand(2, 1)
    y = net(x, t, ctx)
    later = x.clone()
    later[:, 4:] += 1
    same = (net(later, t, ctx) - y)[:, :4].abs().amax(-1) < 1e-6
    assert same.all() if causal else not same.any()
    padded = ctx.tokens.clone()
    padded[1, 3:] += 1
    torch.testing.assert_close(net(x, t, Context(2, ctx.vector, padded, mask)), y)
    padded[0, 3:] += 1
    assert not torch.allclose(net(x, t, Context(2, ctx.vector, padded, mask))[0], y[0])


def test_images_are_no_chunks():
    with pytest.raises(ValueError, match=r"shape: expected \(H, A\), found \(3, 8, 8\)"):
        Gpt(width=32, layers=1).build(shape=(3, 8, 8), out=3, times=1, context=ContextSpec(vector=3))


def test_numbers_have_no_tied_head():
    with pytest.raises(ValueError, match="head: expected biased or plain where numbers are generated, found tied"):
        Gpt(width=32, layers=1, head="tied").build(shape=(6, 2), out=2, times=0, context=ContextSpec(vector=3))
