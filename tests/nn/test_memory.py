"""Memories of a prefix: a joint pass is the prefix's and then the suffix's, and a prefix is written once."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nextmove.contracts import Context, KeyValue, Memory
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.mask import block_mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.rope import Rotary
from nextmove.nn.stream import Stream

BLOCK = Block(16, Heads(4, 2, bias=False), GatedMlp(), RmsNorm())
P, L = 5, 3
VALID = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]], dtype=torch.bool)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def stream():
    made = Stream([BLOCK] * 2, norm=LayerNorm(), rotary=Rotary())
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.3)
    return made


def joint(net, prefix, suffix):
    """One pass: a prefix that sees itself, then a suffix that sees all; padding has no position."""
    valid = torch.cat([VALID, VALID.new_ones(2, L)], 1)
    mask = block_mask(valid, torch.tensor([0] * P + [1] * L))
    return net(torch.cat([prefix, suffix], 1), positions=valid.cumsum(1) - 1, mask=mask)[0][:, P:]


def test_joint_pass_is_the_prefix_and_then_the_suffix_with_its_gradients():
    net, prefix, suffix = stream(), torch.randn(2, P, 16), torch.randn(2, L, 16)
    for x in (prefix, suffix):
        x.requires_grad_()
    expected = joint(net, prefix, suffix)
    _, memory = net(prefix, valid=VALID)
    assert memory.count.tolist() == [5, 3]
    assert torch.equal(memory.mask, VALID)
    found, after = net(suffix, memory=memory.room(L))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert after.count.tolist() == [8, 6]
    assert after.mask[:, P:].all()
    weights = [prefix, suffix, *net.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(found.square().sum(), weights, allow_unused=True),
        torch.autograd.grad(expected.square().sum(), weights, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        for room in (0, L, 40):
            held = memory.room(room) if room else memory
            torch.testing.assert_close(net(suffix, memory=held)[0], expected, atol=1e-5, rtol=1e-5)


class Written(TorchDispatchMode):
    """Counts the numbers that are copied or joined, and the largest tensor made of keys and values."""

    def __init__(self):
        super().__init__()
        self.copied = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.copy_.default, torch.ops.aten.clone.default):
            self.copied += args[-1].numel() if function is torch.ops.aten.copy_.default else args[0].numel()
        if function is torch.ops.aten.cat.default:
            self.copied += sum(part.numel() for part in args[0])
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def test_a_prefix_is_written_once_and_rewound_at_each_call():
    net, length = stream().eval(), 400
    _, memory = net(torch.randn(1, length, 16))
    suffixes = torch.randn(10, 1, L, 16)
    expected = [net(x, memory=memory)[0] for x in suffixes]
    copied, places = [], set()
    for x, want in zip(suffixes, expected, strict=True):
        with Written() as written:
            held = memory.room(L)
            h, after = net(x, memory=held)
        copied.append(written.copied)
        places |= {part.data_ptr() for layer in after.layers for part in (layer.keys, layer.values)}
        torch.testing.assert_close(h, want, atol=1e-5, rtol=1e-5)
    prefix = 2 * 2 * length * 2 * 4
    assert copied[0] >= prefix
    # Each later call copies its own few tokens alone, and all write into the same four buffers.
    assert max(copied[1:]) < prefix / 10
    assert len(places) == 4
    assert memory.room(L) is held
    assert memory.length == length
    with pytest.raises(ValueError, match=f"memory: expected at most {L} tokens behind it, found 7"):
        net(torch.randn(1, 7, 16), memory=held)
    assert memory.room(7).layers[0].buffer.size == length + 7


@torch.no_grad()
def test_growing_copies_only_where_the_place_is_taken():
    new = list(torch.randn(200, 2, 3, 1, 4))
    past, places = KeyValue(new[0], -new[0]), set()
    for part in new[1:]:
        before, past = past, past.append(part, -part)
        places.add(past.keys.data_ptr())
        assert torch.equal(past.keys, torch.cat([before.keys, part], 2))
        assert torch.equal(past.values, -past.keys)
    assert torch.equal(past.keys, torch.cat(new, 2))
    assert len(places) < 5
    old, one = KeyValue(past.keys[:, :, :50], past.values[:, :, :50]), torch.ones(2, 3, 1, 4)
    for other in (old, past):
        grown = other.append(one, one)
        assert torch.equal(grown.keys[:, :, :-1], other.keys)
    twice = past.append(0 * one, 0 * one)
    assert twice.keys[:, :, -1].abs().max() == 0
    assert (grown.keys[:, :, -1] == 1).all()


def test_growing_keeps_gradients():
    past, new = torch.randn(1, 1, 2, 3, requires_grad=True), torch.randn(1, 1, 1, 3, requires_grad=True)
    KeyValue(past, past).append(new, new).append(new, new).keys.sum().backward()
    assert past.grad.tolist() == torch.ones(1, 1, 2, 3).tolist()
    assert new.grad.tolist() == torch.full((1, 1, 1, 3), 2.0).tolist()


def test_what_inference_mode_made_is_not_written_outside_of_it():
    net = stream().eval()
    x, suffix = torch.randn(1, P, 16), torch.randn(1, L, 16)
    with torch.inference_mode():
        _, memory = net(x)
        inside = net(suffix, memory=memory.room(L))[0]
    with torch.no_grad():
        torch.testing.assert_close(net(suffix, memory=memory.room(L))[0], inside)


@torch.no_grad()
def test_contexts_carry_memories_row_by_row():
    net = stream().eval()
    prefix, suffix = torch.randn(2, P, 16), torch.randn(2, L, 16)
    _, memory = net(prefix, valid=VALID)
    _, plain = net(prefix.flip(0))
    ctx, other = Context(2, memory=memory), Context(2, memory=plain)
    expected, others = net(suffix, memory=memory)[0], net(suffix, memory=plain)[0]
    both = ctx.cat(other).memory
    found = net(torch.cat([suffix, suffix]), memory=both)[0]
    torch.testing.assert_close(found, torch.cat([expected, others]), atol=1e-5, rtol=1e-5)
    mixed = ctx.where(torch.tensor([True, False]), other).memory
    found = net(suffix, memory=mixed)[0]
    torch.testing.assert_close(found, torch.stack([expected[0], others[1]]), atol=1e-5, rtol=1e-5)
    repeated = ctx.repeat(2)
    assert repeated.memory.count.tolist() == [5, 5, 3, 3]
    found = net(suffix.repeat_interleave(2, 0), memory=repeated.memory)[0]
    torch.testing.assert_close(found, expected.repeat_interleave(2, 0), atol=1e-5, rtol=1e-5)
    assert ctx.map(torch.Tensor.double).memory.mask.dtype == torch.bool
    with pytest.raises(ValueError, match=r"context.memory: expected in both contexts or in none, found in one"):
        ctx.cat(Context(2))
    with pytest.raises(ValueError, match=r"memory.layers: expected the same 2 in both, found 1"):
        ctx.cat(Context(2, memory=Memory(memory.layers[:1], None, memory.count)))
