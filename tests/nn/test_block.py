"""The block and the stream: every option against torch's own layers or its equation, and configurations of the road."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nextmove.nn.attention import Heads
from nextmove.nn.block import Block, Branch, Source
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.mask import CAUSAL, key_mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.rope import Rotary, rotary, rotate
from nextmove.nn.stream import Stream

PLAIN = Block(16, 4, DenseMlp(32, "gelu"))
NAMES = {
    "self_attn": "attention",
    "multihead_attn": "cross",
    "linear1": "feedforward.up",
    "linear2": "feedforward.down",
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loud(module, std=0.3):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.eval()


def load(ours, theirs):
    """Weights of one of torch's layers."""
    norms = ("attention", "cross", "feedforward") if ours.cross is not None else ("attention", "feedforward")
    names = NAMES | {f"norm{i}": f"{part}_branch.norm" for i, part in enumerate(norms, 1)}
    found = {}
    for name, value in theirs.state_dict().items():
        head, _, rest = name.partition(".")
        found[f"{names[head]}.{rest}"] = value
    ours.load_state_dict(found)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_torchs_encoder_and_decoder_layers(place, activation):
    """ViT's block is the encoder's with norms before, BERT's the one with norms after."""
    config = Block(16, 4, DenseMlp(32, activation), place=place)
    options = {"dropout": 0.0, "activation": activation, "batch_first": True, "norm_first": place == "before"}
    x, tokens = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    keep = torch.tensor([[1, 1, 1, 0, 1], [1, 0, 1, 1, 0]], dtype=torch.bool)
    ours, theirs = config.build(), loud(nn.TransformerEncoderLayer(16, 4, 32, **options))
    load(ours, theirs)
    torch.testing.assert_close(ours(x, mask=key_mask(keep))[0], theirs(x, src_key_padding_mask=~keep))
    torch.testing.assert_close(ours(x, position=torch.zeros(5, 16))[0], ours(x)[0])
    ours, theirs = replace(config, cross=16).build(), loud(nn.TransformerDecoderLayer(16, 4, 32, **options))
    load(ours, theirs)
    past, three = ~torch.ones(5, 5, dtype=torch.bool).tril(), keep[:, :3]
    expected = theirs(x, tokens, tgt_mask=past, memory_key_padding_mask=~three)
    torch.testing.assert_close(ours(x, mask=CAUSAL, source=Source(tokens, key_mask(three)))[0], expected)
    with pytest.raises(ValueError, match="source: expected tokens for the cross-attention, found none"):
        ours(x)


def test_positions_reach_queries_and_keys_but_not_values():
    block = loud(replace(PLAIN, place="after", cross=6).build())
    x, position, tokens, where = (torch.randn(2, n, d) for n, d in ((5, 16), (5, 16), (3, 6), (3, 6)))
    asked = x + position
    h = block.attention_branch.norm(x + block.attention(asked, asked, x)[0])
    h = block.cross_branch.norm(h + block.cross(h + position, tokens + where, tokens)[0])
    expected = block.feedforward_branch.norm(h + block.feedforward(h))
    torch.testing.assert_close(block(x, position=position, source=Source(tokens, position=where))[0], expected)


def test_norms_before_and_after_are_gemma_2s():
    """Equation: x + post(part(pre(x))) for attention, then for the gated units; scores capped, keys by windows."""
    heads = Heads(4, 2, 4, bias=False, out_bias=False, cap=2.0, window=2)
    config = Block(16, heads, GatedMlp(24, "gelu_tanh"), RmsNorm(1e-6, offset=1.0), "both")
    block, x = loud(config.build()), torch.randn(2, 5, 16)
    cosines, sines = rotary(torch.arange(5), 4)

    def rms(h, norm):
        return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + norm.weight)

    h = rms(x, block.attention_branch.norm)
    q, k, v = (h @ block.attention.in_proj_weight.T).unflatten(-1, (8, 4)).transpose(1, 2).split((4, 2, 2), 1)
    q, k = rotate(q, cosines, sines), rotate(k, cosines, sines).repeat_interleave(2, 1)
    score = 2 * (q @ k.mT / 2 / 2).tanh()
    near = torch.ones(5, 5).tril().bool() & torch.ones(5, 5).triu(-1).bool()
    y = score.masked_fill(~near, -torch.inf).softmax(-1) @ v.repeat_interleave(2, 1)
    y = y.transpose(1, 2).flatten(2) @ block.attention.out_proj.weight.T
    expected = x + rms(y, block.attention_branch.post_norm)
    gate, up = (rms(expected, block.feedforward_branch.norm) @ block.feedforward.up.weight.T).chunk(2, -1)
    y = (F.gelu(gate, approximate="tanh") * up) @ block.feedforward.down.weight.T
    expected = expected + rms(y, block.feedforward_branch.post_norm)
    found = block(x, mask=CAUSAL, rotate=lambda x: rotate(x, cosines, sines))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_tanh_gates_start_closed_and_open_as_flamingos():
    block = replace(PLAIN, attention=False, cross=6, tanh_gate=True).build().eval()
    x, source = torch.randn(2, 5, 16), Source(torch.randn(2, 3, 6))
    assert torch.equal(block(x, source=source)[0], x)
    block(x, source=source)[0].square().sum().backward()
    assert block.cross_branch.gate.grad.abs().item() > 0
    loud(block)
    y = x + block.cross_branch.gate.tanh() * block.cross(block.cross_branch.norm(x), source.tokens, source.tokens)[0]
    y = y + block.feedforward_branch.gate.tanh() * block.feedforward(block.feedforward_branch.norm(y))
    torch.testing.assert_close(block(x, source=source)[0], y)
    assert block.attention is None
    assert block(x, source=source)[1] is None


def test_layer_scale_scales_channels():
    block, x = replace(PLAIN, layer_scale=1e-3).build().eval(), torch.randn(2, 5, 16)
    assert torch.equal(block.attention_branch.scale, torch.full((16,), 1e-3))
    loud(block)
    h = block.attention_branch.norm(x)
    y = x + block.attention_branch.scale * block.attention(h, h, h)[0]
    y = y + block.feedforward_branch.scale * block.feedforward(block.feedforward_branch.norm(y))
    torch.testing.assert_close(block(x)[0], y)


@pytest.mark.parametrize("norm", [LayerNorm(1e-6, gain=False), RmsNorm(1e-6, gain=False)])
@pytest.mark.parametrize("cross", [0, 6])
@pytest.mark.parametrize("place", ["before", "both"])
def test_a_condition_shifts_scales_and_gates(norm, cross, place):
    """DiT's adaLN-zero; with norms by size alone, pi0.5's; of a row or, token by token, of each token."""
    block = replace(PLAIN, norm=norm, cross=cross, condition=7, place=place).build().eval()
    x, condition = torch.randn(2, 5, 16), torch.randn(2, 7)
    source = Source(torch.randn(2, 3, 6)) if cross else None
    assert torch.equal(block(x, source=source, condition=condition)[0], x)
    loud(block)
    parts = [
        (block.attention_branch, lambda h: block.attention(h, h, h)[0]),
        (block.feedforward_branch, block.feedforward),
    ]
    if cross:
        parts.insert(1, (block.cross_branch, lambda h: block.cross(h, source.tokens, source.tokens)[0]))
    rows = block.adaptive.linear(condition).unflatten(-1, (len(parts), 3, 16))
    y = x
    for i, (branch, part) in enumerate(parts):
        shift, scale, gate = (rows[:, None, i, j] for j in range(3))
        answer = part(branch.norm(y) * (1 + scale) + shift)
        answer = answer if place == "before" else branch.post_norm(answer)
        y = y + gate * answer
    found = block(x, source=source, condition=condition)[0]
    torch.testing.assert_close(found, y, atol=1e-5, rtol=1e-5)
    each = block(x, source=source, condition=condition[:, None].expand(-1, 5, -1))[0]
    torch.testing.assert_close(each, found, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="condition: expected width 7, found none"):
        block(x, source=source)


def test_glu_gates_with_the_second_half_where_it_is_torchs():
    x = torch.randn(3, 4)
    part = GatedMlp(6, "sigmoid", bias=True, gate="second").build(4)
    torch.testing.assert_close(part(x), part.down(F.glu(F.linear(x, part.up.weight, part.up.bias))))
    part = GatedMlp(6, "sigmoid", bias=True).build(4)
    a, b = F.linear(x, part.up.weight, part.up.bias).chunk(2, -1)
    torch.testing.assert_close(part(x), part.down(a.sigmoid() * b))


def test_each_dropout_acts_at_its_place_in_training_only():
    x = torch.randn(2, 5, 16)
    for name in ("dropout", "attention_dropout", "hidden_dropout"):
        block = loud(replace(PLAIN, **{name: 0.5}).build())
        assert torch.equal(block(x)[0], block(x)[0]), name
        block.train()
        assert not torch.equal(block(x)[0], block(x)[0]), name
    branch = Branch(replace(PLAIN, dropout=0.5))
    branch.dropout.forward = torch.zeros_like
    assert torch.equal(branch.join(x, x, None), x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"place": "between"}, "place: expected before, after or both, found 'between'"),
        ({"place": "after", "condition": 3}, "condition: expected norms before the parts"),
        ({"heads": 5}, "heads: expected a divisor of width 16, found 5"),
        ({"feedforward": GatedMlp(gate="last")}, "gate: expected first or second, found 'last'"),
        ({"feedforward": DenseMlp(activation="tanh")}, "activation: expected one of gelu, .*, found 'tanh'"),
    ],
)
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **wrong).build()


OPTIONS = {
    "plain": PLAIN,
    "after": replace(PLAIN, place="after"),
    "llama": Block(16, Heads(4, 2, bias=False, norm=RmsNorm()), GatedMlp(), RmsNorm()),
    "gemma2": Block(16, Heads(4, 2, cap=5.0, window=3), GatedMlp(), RmsNorm(), "both"),
    "scaled": replace(PLAIN, layer_scale=0.1),
    "conditioned": replace(PLAIN, condition=7),
    "flamingo": replace(PLAIN, cross=6, tanh_gate=True),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("cuts", [(1,) * 6, (3, 1, 2)])
def test_a_stream_in_pieces_equals_the_stream_at_once(name, grad, cuts):
    with torch.set_grad_enabled(grad):
        stream = loud(Stream([OPTIONS[name]] * 2, norm=LayerNorm(), rotary=Rotary()))
        x, more = torch.randn(2, 6, 16), {"condition": torch.randn(2, 7), "source": Source(torch.randn(2, 3, 6))}
        expected, full = stream(x, mask=CAUSAL, **more)
        memory, parts = None, []
        for piece in x.split(list(cuts), 1):
            h, memory = stream(piece, mask=CAUSAL, memory=memory, **more)
            parts.append(h)
        torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=1e-5)
        for mine, whole in zip(memory.layers, full.layers, strict=True):
            torch.testing.assert_close(mine.keys, whole.keys, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(mine.values, whole.values, atol=1e-5, rtol=1e-5)
        assert memory.count.tolist() == full.count.tolist() == [6, 6]
        # Positions by row: the same distances give the same answers.
        shifted = torch.arange(6) + torch.tensor([[0], [9]])
        found = stream(x, positions=shifted, mask=CAUSAL, **more)[0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_weight_learns_and_bf16_runs(name):
    stream = Stream([OPTIONS[name]] * 2, norm=LayerNorm())
    for weight in stream.parameters():
        nn.init.normal_(weight, std=0.3)
    x, condition, source = torch.randn(2, 6, 16), torch.randn(2, 7), Source(torch.randn(2, 3, 6))
    with torch.autocast("cpu", torch.bfloat16):
        h, memory = stream(x, mask=CAUSAL, condition=condition, source=source, remember=False)
    h.float().square().sum().backward()
    assert h.isfinite().all()
    assert memory is None
    assert [name for name, p in stream.named_parameters() if p.grad is None] == []


def test_blocks_of_a_stream_may_differ():
    """As SmolVLA's layers, which read themselves and another network in turn, or Gemma 2's windows."""
    configs = [PLAIN, replace(PLAIN, attention=False, cross=6), replace(PLAIN, heads=Heads(4, window=2))]
    stream, x, source = loud(Stream(configs)), torch.randn(2, 5, 16), Source(torch.randn(2, 3, 6))
    y = x
    for block in stream.blocks:
        y, _ = block(y, mask=CAUSAL, source=source)
    h, memory = stream(x, mask=CAUSAL, source=source)
    torch.testing.assert_close(h, y)
    assert [layer is None for layer in memory.layers] == [False, True, False]
    assert stream.norm is None
