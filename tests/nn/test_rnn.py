"""The recurrent trunk: equal to its parts, causal, strict about the number of steps."""

import itertools

import pytest
import torch

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.rnn import Lstm, Rnn


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
    for x_t in net.input(ctx.tokens).unbind(1):
        gates = x_t @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
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


def language(trunk, spec=ContextSpec(), classes=9, start=True):  # noqa: B008
    return trunk.build_tokens(length=7, classes=classes, context=spec, start=start)


@pytest.mark.parametrize("spec", [ContextSpec(), ContextSpec(vector=3)])
@pytest.mark.parametrize("trunk", [Rnn(width=8, layers=2), Lstm(width=8, layers=2), Lstm(width=8, layers=1)])
def test_ids_in_pieces_with_the_cache_equal_ids_at_once(trunk, spec):
    net, ids = language(trunk, spec), torch.randint(0, 10, (2, 7))
    ctx = Context(2, torch.randn(2, 3) if spec.vector else None)
    expected, full = net(ids, ctx, None)
    assert expected.shape == (2, 7, 9)
    # Rows first, as in every cache.
    assert full[0][0].shape == (2, trunk.layers, 8)
    for cuts in ([1] * 7, [4, 1, 2]):
        cache, parts = None, []
        for piece in ids.split(cuts, 1):
            last = net.last(piece, ctx, cache)[0]
            logits, cache = net(piece, ctx, cache)
            torch.testing.assert_close(last, logits[:, -1:])
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), expected)
        torch.testing.assert_close(cache, full)
    expected.pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_plain_cells_equal_the_equation():
    net, ids = language(Rnn(width=8, layers=1)), torch.randint(0, 10, (2, 4))
    cells, h, expected = net.cells, torch.zeros(2, 8), []
    for x in net.embedding(ids).unbind(1):
        h = (x @ cells.weight_ih_l0.T + cells.bias_ih_l0 + h @ cells.weight_hh_l0.T + cells.bias_hh_l0).tanh()
        expected.append(net.head(h))
    torch.testing.assert_close(net(ids, Context.empty(2), None)[0], torch.stack(expected, 1))


def test_forget_gates_begin_open():
    net = language(Lstm(width=64, layers=2))
    for layer in range(2):
        both = getattr(net.cells, f"bias_ih_l{layer}") + getattr(net.cells, f"bias_hh_l{layer}")
        means = [part.mean().item() for part in both.chunk(4)]
        assert means == pytest.approx([0, 1, 0, 0], abs=0.1)


def test_what_a_recurrent_language_model_cannot_be_given_is_named():
    with pytest.raises(ValueError, match=r"context\.token: expected none, found width 5"):
        language(Lstm(), ContextSpec(token=5, tokens=2))
    with pytest.raises(ValueError, match=r"context\.vector: expected width 3, found none"):
        language(Lstm(width=8), ContextSpec(vector=3))(torch.zeros(1, 1, dtype=torch.long), Context.empty(1))
    assert language(Rnn(width=8), start=False).embedding.weight.shape == (9, 8)
