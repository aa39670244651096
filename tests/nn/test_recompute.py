"""Gradient checkpointing: the same gradients, dropout included, in less memory."""

import pytest
import torch
from tests.training.tiny import OPTIM, Tiny, run

from nextmove.contracts import Context, ContextSpec
from nextmove.contracts.blocks import recomputed
from nextmove.decoders import Flow, MeanFlow
from nextmove.nn import Transformer
from nextmove.nn.gpt import Gpt
from nextmove.training.live import timeline

IDS = torch.randint(20, (8, 16), generator=torch.Generator().manual_seed(0))


def language(**options):
    torch.manual_seed(0)
    return Gpt(32, 6, 4, **options).build_tokens(length=32, classes=20, context=ContextSpec()).train()


def gradients(net, wanted):
    torch.manual_seed(1)
    net.zero_grad()
    with recomputed(net, wanted):
        net(IDS, Context.empty(8))[0].square().mean().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same_to_the_last_bit(dropout):
    net = language(dropout=dropout)
    kept, again = gradients(net, False), gradients(net, True)
    assert all(torch.equal(again[name], value) for name, value in kept.items())
    assert not net.stream.recompute


def test_a_stream_of_six_blocks_keeps_less_than_half():
    net = language()
    bytes_of = {
        wanted: timeline(lambda w=wanted: gradients(net, w), net.parameters()).max() for wanted in (False, True)
    }
    assert bytes_of[True] < 0.5 * bytes_of[False]


def test_without_gradients_blocks_run_once(monkeypatch):
    net = language()
    monkeypatch.setattr("nextmove.nn.stream._recomputed", lambda *_: pytest.fail("computed a second time"))
    with torch.no_grad(), recomputed(net, True):
        net(IDS, Context.empty(8))


class Flowing(torch.nn.Module):
    """A flow whose network is a transformer."""

    def __init__(self, rule=Flow):
        super().__init__()
        torch.manual_seed(0)
        config = rule(trunk=Transformer(width=32, dropout=0.1))
        self.decoder = config.build(shape=(1, 3), context=ContextSpec(vector=4))

    def loss(self, batch, *, rng):
        ctx = Context(len(batch["x"]), vector=batch["condition"])
        return self.decoder.loss(ctx, batch["x"][:, None], weight=None, rng=rng)


def test_a_training_is_the_same(tmp_path):
    found = {w: run(tmp_path / str(w), Flowing(), steps=3, gradient_checkpointing=w)[0].ema for w in (False, True)}
    assert all(torch.equal(found[True][name], value) for name, value in found[False].items())


def test_where_there_is_nothing_to_recompute_that_is_said(tmp_path):
    with pytest.raises(ValueError, match="gradient_checkpointing: expected a network of transformer blocks"):
        run(tmp_path / "a", Tiny(), steps=1, gradient_checkpointing=True)
    with pytest.raises(ValueError, match="gradient_checkpointing: expected a loss without derivatives of its own"):
        run(tmp_path / "b", Flowing(MeanFlow), steps=1, gradient_checkpointing=True, optim=OPTIM)
