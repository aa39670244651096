"""Attention and its layers against PyTorch's own on equal weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nextmove.nn import attention
from nextmove.nn.attention import Attention, Heads
from nextmove.nn.mask import CAUSAL, block_mask, key_mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.rope import rotary, rotate


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pair(width=16, heads=4):
    theirs = nn.MultiheadAttention(width, heads, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(width, heads)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_equals_multihead_attention_with_separate_inputs_and_key_mask():
    ours, theirs = pair()
    q, k, v = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    keep = torch.tensor([[1, 1, 1, 0, 1], [1, 0, 1, 1, 0]], dtype=torch.bool)
    expected = theirs(q, k, v, key_padding_mask=~keep, need_weights=False)[0]
    torch.testing.assert_close(ours(q, k, v, mask=key_mask(keep))[0], expected)
    with torch.no_grad():
        ours.in_proj_weight[0, 0] += 0.1
    assert not torch.allclose(ours(q, k, v, mask=key_mask(keep))[0], expected, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_equals_multihead_attention_with_causal_and_explicit_masks(shared):
    ours, theirs = pair()
    x = torch.randn(2, 5, 16)
    y = x if shared else x.clone()
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    expected = theirs(x, x, x, attn_mask=~past, need_weights=False)[0]
    torch.testing.assert_close(ours(x, y, y, mask=CAUSAL)[0], expected)
    torch.testing.assert_close(ours(x, y, y, mask=past)[0], expected)
    keep = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 0, 1]], dtype=torch.bool)
    expected = theirs(x, x, x, attn_mask=~past, key_padding_mask=~keep, need_weights=False)[0]
    seen = ours(x, y, y, mask=past & keep[:, None])[0]
    torch.testing.assert_close(seen, expected)


def test_causal_with_everything_before_masked_sees_itself():
    ours, _ = pair()
    x = torch.randn(1, 3, 16)
    y = ours(x, x, x, mask=block_mask(torch.tensor([[False, False, True]]), torch.arange(3)))[0]
    alone = ours(x[:, :1], x[:, :1], x[:, :1])[0]
    torch.testing.assert_close(y[:, :1], alone)
    assert y.isfinite().all()


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1), (3, 1, 2), (4, 2)])
def test_in_pieces_equals_all_at_once(cuts):
    ours, _ = pair()
    x = torch.randn(2, 6, 16)
    expected, whole = ours(x, x, x, mask=CAUSAL)
    past, parts = None, []
    for piece in x.split(list(cuts), 1):
        y, past = ours(piece, piece, piece, mask=CAUSAL, past=past)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), expected)
    torch.testing.assert_close(past.keys, whole.keys)
    torch.testing.assert_close(past.values, whole.values)
    assert whole.keys.shape == (2, 4, 6, 4)


@pytest.mark.parametrize(
    ("causal", "masked", "length"), [(True, False, 6), (True, True, 6), (True, True, 1), (False, False, 1)]
)
def test_shared_heads_equal_heads_repeated(causal, masked, length):
    ours = Attention(16, Heads(6, 2, head_dim=4))
    nn.init.normal_(ours.in_proj_bias)
    whole = Attention(16, Heads(6, 6, head_dim=4))

    def repeated(packed):
        q, k, v = packed.split([24, 8, 8])
        return torch.cat([q, *(part.unflatten(0, (2, 4)).repeat_interleave(3, 0).flatten(0, 1) for part in (k, v))])

    packed = {name: repeated(getattr(ours, name).detach()) for name in ("in_proj_weight", "in_proj_bias")}
    whole.load_state_dict({**ours.state_dict(), **packed})
    x = torch.randn(2, length, 16)
    keep = torch.randint(0, 2, (2, length)).bool() if masked else None
    mask = CAUSAL if causal else None
    if keep is not None:
        mask = block_mask(keep, torch.arange(length)) if causal else key_mask(keep)
    torch.testing.assert_close(ours(x, x, x, mask=mask)[0], whole(x, x, x, mask=mask)[0])
    assert ours(x, x, x)[1].keys.shape == (2, 2, length, 4)


def test_queries_and_keys_are_normed_by_head_and_scores_scaled():
    ours = Attention(8, Heads(2, head_dim=6, bias=False, out_bias=False, scale=0.7, norm=RmsNorm(eps=1e-6)))
    for weight in ours.parameters():
        nn.init.normal_(weight)
    assert [name for name, _ in ours.named_parameters()] == [
        "in_proj_weight",
        "out_proj.weight",
        "query_norm.weight",
        "key_norm.weight",
    ]
    x = torch.randn(1, 3, 8)
    q, k, v = (x[0] @ ours.in_proj_weight.T).view(3, 3, 2, 6).permute(1, 2, 0, 3)

    def rms(x, norm):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight

    score = 0.7 * rms(q, ours.query_norm) @ rms(k, ours.key_norm).mT
    expected = (score.softmax(-1) @ v).transpose(0, 1).flatten(1) @ ours.out_proj.weight.T
    torch.testing.assert_close(ours(x, x, x)[0][0], expected, atol=1e-5, rtol=1e-5)


def test_queries_and_keys_are_normed_over_all_heads_together():
    ours = Attention(8, Heads(2, bias=False, out_bias=False, norm=LayerNorm(bias=False), norm_whole=True))
    for weight in ours.parameters():
        nn.init.normal_(weight)
    x = torch.randn(2, 3, 8)
    q, k, v = F.linear(x, ours.in_proj_weight).chunk(3, -1)
    q, k = (F.layer_norm(y, (8,), norm.weight) for y, norm in ((q, ours.query_norm), (k, ours.key_norm)))
    q, k, v = (y.view(2, 3, 2, 4).transpose(1, 2) for y in (q, k, v))
    expected = F.linear(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).flatten(2), ours.out_proj.weight)
    torch.testing.assert_close(ours(x, x, x)[0], expected, atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only():
    ours = Attention(16, 4, 0.5)
    x = torch.randn(2, 6, 16)
    assert not torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])
    ours.eval()
    assert torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])


@pytest.mark.parametrize("heads", [Heads(0), Heads(-4), Heads(0, head_dim=4), Heads(4, -2)])
def test_there_is_at_least_one_head(heads):
    with pytest.raises(ValueError, match=r"heads.*: expected a divisor of .*, found (0|-4|-2)"):
        Attention(16, heads)


def test_heads_must_divide_width():
    with pytest.raises(ValueError, match=r"heads: expected a divisor of width 16, found 3"):
        Attention(16, 3)


def test_rotary_turns_by_the_angle_and_scores_depend_on_distance_only():
    cosines, sines = rotary(torch.tensor([3]), 4)
    x = torch.tensor([1.0, 0.0, 0.0, 2.0])[None, None, None]
    a, b = 3.0, 3.0 / 100  # 3 / 10000^(0) and 3 / 10000^(2/4)
    expected = torch.tensor([a, b, a, b])
    expected = torch.tensor([expected[0].cos(), -2 * expected[1].sin(), expected[0].sin(), 2 * expected[1].cos()])
    torch.testing.assert_close(rotate(x, cosines, sines)[0, 0, 0], expected)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    score = lambda i, j: (rotate(q, *rotary(torch.tensor([i]), 8)) * rotate(k, *rotary(torch.tensor([j]), 8))).sum()  # noqa: E731
    torch.testing.assert_close(score(7, 4), score(103, 100), atol=1e-4, rtol=1e-4)
    assert (score(7, 4) - score(4, 7)).abs() > 1e-3
    with pytest.raises(ValueError, match="width: expected an even"):
        rotary(torch.arange(3), 5)


def test_rotary_positions_of_a_row_are_its_own():
    positions = torch.tensor([[0, 1, 2, 3], [5, 6, 9, 2]])
    x = torch.randn(2, 3, 4, 8)
    rotated = rotate(x, *rotary(positions, 8))
    for row in range(2):
        torch.testing.assert_close(rotated[row], rotate(x[row : row + 1], *rotary(positions[row], 8))[0])
    ours, h = Attention(16, 2), torch.randn(2, 4, 16)

    def answer(positions):
        return ours(h, h, h, mask=CAUSAL, rotate=lambda x: rotate(x, *rotary(positions, 8)))[0]

    plain = answer(torch.arange(4))
    # Scores depend on distances alone: a row that starts later answers as if it started at 0.
    torch.testing.assert_close(answer(torch.arange(4) + torch.tensor([[0], [7]])), plain, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(answer(positions), plain, atol=1e-4)


@pytest.mark.parametrize("heads", [4, Heads(4, 2, norm=RmsNorm())])
def test_keys_of_another_width(heads):
    ours = Attention(16, heads, source=6)
    if heads == 4:
        theirs = nn.MultiheadAttention(16, 4, kdim=6, vdim=6, batch_first=True)
        nn.init.normal_(theirs.in_proj_bias)
        ours.load_state_dict(theirs.state_dict())
    q, k, v = torch.randn(2, 3, 16), torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    y = ours(q, k, v)[0]
    if heads == 4:
        torch.testing.assert_close(y, theirs(q, k, v, need_weights=False)[0])
    torch.testing.assert_close(ours.attend(*ours.project(q, k, v)), y)
    assert "in_proj_weight" not in ours.state_dict()
    y.square().sum().backward()
    assert [name for name, p in ours.named_parameters() if p.grad is None] == []

    with pytest.raises(RuntimeError):
        ours(q, q, q)


@pytest.mark.parametrize("queries", [5, 2, 1])
def test_masks_are_one_for_each_row(queries):
    """Rows (B, L, S) and (B, 1, L, S) are the same, and a block mask is its definition."""
    ours, _ = pair()
    valid = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]], dtype=torch.bool)
    block = torch.tensor([[0, 0, 0, 1, 2], [0, 0, 1, 1, 1]])
    mask = block_mask(valid, block, queries)
    assert mask.shape == (2, 1, queries, 5)
    for b in range(2):
        for i in range(queries):
            at = 5 - queries + i
            expected = [bool(valid[b, j] and block[b, j] <= block[b, at]) or j == at for j in range(5)]
            assert mask[b, 0, i].tolist() == expected
    q, k = torch.randn(2, queries, 16), torch.randn(2, 5, 16)
    y = ours(q, k, k, mask=mask)[0]
    torch.testing.assert_close(ours(q, k, k, mask=mask[:, 0])[0], y)
    for b in range(2):
        for i in range(queries):
            seen = k[b : b + 1, mask[b, 0, i]]
            torch.testing.assert_close(ours(q[b : b + 1, i : i + 1], seen, seen)[0][0, 0], y[b, i])
    assert torch.equal(block_mask(valid, block[0], queries)[0], mask[0])


def written_out(ours, x, keep, cap=0.0):
    """The equation with scores capped, head by head."""
    q, k, v = (x @ ours.in_proj_weight.T).unflatten(-1, (3, 2, 4)).unbind(-3)
    heads = []
    for h in range(2):
        score = q[..., h, :] @ k[..., h, :].mT / 2
        score = cap * (score / cap).tanh() if cap else score
        heads.append(score.masked_fill(~keep, -torch.inf).softmax(-1) @ v[..., h, :])
    return torch.cat(heads, -1) @ ours.out_proj.weight.T + ours.out_proj.bias


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("mask", [CAUSAL, None])
def test_capped_scores_and_sliding_windows_equal_their_equations(mask, train):
    x, i = 3 * torch.randn(2, 6, 8), torch.arange(6)
    past = i[:, None] >= i if mask is CAUSAL else torch.ones(6, 6, dtype=torch.bool)
    near = past & ((i[:, None] - i).abs() < 3)
    capped, windowed = Attention(8, Heads(2, cap=1.5)).train(train), Attention(8, Heads(2, window=3)).train(train)
    torch.testing.assert_close(capped(x, x, x, mask=mask)[0], written_out(capped, x, past, 1.5))
    y = windowed(x, x, x, mask=mask)[0]
    torch.testing.assert_close(y, written_out(windowed, x, near))
    torch.testing.assert_close(windowed(x, x, x, mask=past)[0], y)
    assert not torch.allclose(y, written_out(windowed, x, past), atol=1e-3)
    assert not torch.allclose(capped(x, x, x, mask=mask)[0], written_out(capped, x, past), atol=1e-3)


def test_a_window_counts_places_of_the_past():
    ours, x = Attention(8, Heads(2, window=3)), torch.randn(2, 6, 8)
    whole, past, parts = ours(x, x, x, mask=CAUSAL)[0], None, []
    for piece in x.split([2, 1, 3], 1):
        y, past = ours(piece, piece, piece, mask=CAUSAL, past=past)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("name", ["cap", "window"])
def test_caps_and_windows_are_not_negative(name):
    with pytest.raises(ValueError, match=rf"heads\.{name}: expected 0 or more, found -1"):
        Attention(8, Heads(2, **{name: -1}))


@pytest.mark.parametrize("heads", [Heads(2), Heads(2, cap=5.0), Heads(2, window=2)])
def test_a_floating_mask_is_added_to_the_scores(heads):
    torch.manual_seed(0)
    attention, x = Attention(8, heads), torch.randn(2, 5, 8)
    seen = torch.rand(5, 5) > 0.4
    seen |= torch.eye(5, dtype=torch.bool)
    added = torch.zeros(1, 1, 5, 5).masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(attention(x, x, x, added)[0], attention(x, x, x, seen)[0])
    # A constant for all keys changes nothing, one for a single key does.
    torch.testing.assert_close(attention(x, x, x, added + 3)[0], attention(x, x, x, seen)[0])
    added[..., 0] += 3
    assert not torch.allclose(attention(x, x, x, added)[0], attention(x, x, x, seen)[0])


@pytest.mark.parametrize("heads", [Heads(4), Heads(4, 2), Heads(4, 1, window=3)])
@pytest.mark.parametrize("mask", [CAUSAL, None, "keys"])
def test_scores_written_out_in_bf16_are_those_of_the_kernel(heads, mask, monkeypatch):
    ours, x = Attention(16, heads), torch.randn(2, 6, 16, requires_grad=True)
    mask = key_mask(torch.tensor([[True] * 6, [True] * 4 + [False] * 2])) if mask == "keys" else mask

    def found(longest):
        monkeypatch.setattr(attention, "WRITTEN", longest)
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x, x, x, mask)[0]
        return y.float(), torch.autograd.grad(y.float().square().sum(), x)[0]

    kernel = []
    own = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **o: kernel.append(1) or own(*a, **o))
    torch.testing.assert_close(found(8), expected := found(0), rtol=0.05, atol=0.05)
    assert len(kernel) == 1
    with torch.no_grad():
        torch.testing.assert_close(ours(x, x, x, mask)[0], expected[0], rtol=0.05, atol=0.05)
    assert len(kernel) == 2
