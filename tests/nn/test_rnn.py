"""The recurrent trunk: equal to its parts, causal, strict about the number of steps."""

import itertools

import pytest
import torch

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.rnn import Lstm


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("vector", "times", "actions"), list(itertools.product([0, 3], [0, 1, 2], [0, 4])))
def test_shapes_and_gradients(vector, times, actions):
    spec = ContextSpec(vector, 5, 6)
    net = Lstm(width=8, layers=2).build(shape=(6, actions), out=3, times=times, context=spec)
    ctx = Context(2, torch.randn(2, vector) if vector else None, torch.randn(2, 6, 5))
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 6, actions), torch.rand(2, times) if times else None, ctx)
    assert y.shape == (2, 6, 3)
    y.float().pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_one_layer_equals_the_equations_and_reads_no_later_step():
    net = Lstm(width=8, layers=1).build(shape=(4, 0), out=3, times=0, context=ContextSpec(token=5, tokens=4))
    ctx = Context(2, tokens=torch.randn(2, 4, 5))
    h = c = torch.zeros(2, 8)
    lstm, expected = net.lstm, []
    for told in net.input(ctx.tokens).unbind(1):
        gates = told @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        expected.append(net.head(h))
    y = net(torch.zeros(2, 4, 0), None, ctx)
    torch.testing.assert_close(y, torch.stack(expected, 1))
    later = ctx.tokens.clone()
    later[:, 2] += 1
    differs = (net(torch.zeros(2, 4, 0), None, ctx.replace(tokens=later)) - y).abs().amax((0, 2)) > 1e-6
    assert differs.tolist() == [False, False, True, True]


def test_number_of_steps_is_checked():
    with pytest.raises(ValueError, match=r"context.tokens: expected one for each of 6 steps, found 5"):
        Lstm().build(shape=(6, 0), out=3, times=0, context=ContextSpec(token=5, tokens=5))
    with pytest.raises(ValueError, match=r"context.tokens: expected one for each of 6 steps, found 0"):
        Lstm().build(shape=(6, 0), out=3, times=0, context=ContextSpec(vector=5))
    net = Lstm(width=8).build(shape=(6, 0), out=3, times=0, context=ContextSpec(token=5, tokens=6))
    with pytest.raises(ValueError, match=r"context.tokens: expected one for each of 6 steps, found 4"):
        net(torch.zeros(2, 6, 0), None, Context(2, tokens=torch.randn(2, 4, 5)))


def test_reading_in_pieces_with_the_state_equals_reading_at_once():
    net = Lstm(width=8, layers=2).build(shape=(6, 0), out=3, times=0, context=ContextSpec(token=5, tokens=6))
    h = torch.randn(2, 6, 8)
    whole, last = net.read(h)
    first, state = net.read(h[:, :4])
    second, state = net.read(h[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, last)
