import dataclasses

import pytest
import torch
from tests.decoders.oracles import Exact

from nextmove.contracts import Context, ContextSpec, seeded
from nextmove.decoders.diffusion import Diffusion, Flow, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.guidance import Guidance, drop, guided
from nextmove.decoders.paths import Cosine
from nextmove.decoders.solvers import Ancestral, Ddim
from nextmove.decoders.targets import to_e, to_x1


def context(batch):
    vector = torch.randn(batch, 2, generator=seeded(1))
    return Context(batch, vector=vector, null=Context(batch, vector=torch.full((batch, 2), 0.5)))


def network(x, t, ctx):
    return torch.tanh(x * ctx.vector[:, :1, None] + ctx.vector[:, 1:, None]) + 0.001 * t[:, :, None]


def test_definition_and_one_call_for_both_halves():
    ctx, x, t = context(3), torch.randn(3, 4, 2, generator=seeded(0)), torch.full((3, 1), 300.0)
    sizes = []

    def net(x, t, ctx):
        sizes.append(len(x))
        return network(x, t, ctx)

    conditional, null = network(x, t, ctx), network(x, t, ctx.null)
    for w in (0.0, 0.3, 2.5):
        y = guided(net, ctx, Guidance(w))(x, t, 0.3)
        torch.testing.assert_close(y, null + w * (conditional - null))
    assert sizes == [6, 6, 6]
    assert torch.equal(guided(net, ctx, Guidance(1.0))(x, t, 0.3), conditional)
    assert sizes[-1] == 3


def test_interval():
    ctx, x, t = context(2), torch.randn(2, 4, 2, generator=seeded(0)), torch.full((2, 1), 300.0)
    call = guided(network, ctx, Guidance(3.0, 0.2, 0.6))
    conditional = network(x, t, ctx)
    for time, outside in ((0.1, True), (0.2, False), (0.6, False), (0.61, True)):
        assert torch.equal(call(x, t, time), conditional) == outside


def test_rescale_brings_back_the_spread_of_each_row():
    conditional, null = (torch.randn(3, 5, 2, generator=seeded(s)) for s in (0, 1))
    guided_ = null + 4 * (conditional - null)
    full = Guidance(4.0, rescale=1.0).mix(conditional, null)
    torch.testing.assert_close(full.std((1, 2)), conditional.std((1, 2)))
    part = Guidance(4.0, rescale=0.7).mix(conditional, null)
    torch.testing.assert_close(part, 0.7 * full + 0.3 * guided_, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "velocity"])
def test_acting_on_any_target_is_the_same(target):
    n, x = Cosine().node(0.4), torch.randn(5, dtype=torch.float64, generator=seeded(2))
    c, null = (torch.randn(5, dtype=torch.float64, generator=seeded(s)) for s in (0, 1))
    mix = Guidance(2.5).mix
    for convert in (to_x1, to_e):
        torch.testing.assert_close(
            convert(target, x, mix(c, null), n), mix(*(convert(target, x, y, n) for y in (c, null)))
        )


@pytest.mark.parametrize("kind", ["flow", "ancestral", "ddim"])
def test_samplers_follow_the_definition(kind):
    """The guided sampler with the pair equals the plain sampler with the mixed network."""
    ctx = context(3)

    def mixed(x, t, ctx):
        c, null = network(x, t, ctx), network(x, t, ctx.null)
        return null + 1.8 * (c - null)

    plain = {
        "flow": Sampler(steps=4),
        "ancestral": Sampler(Ancestral(), 10, Indices(), clip=1.0),
        "ddim": Sampler(Ddim(), 10, Indices()),
    }[kind]
    make = Flow if kind == "flow" else Diffusion
    draw = lambda net, sampler: (  # noqa: E731
        make(Exact(net)).build(shape=(4, 2), context=ContextSpec(2)).with_sampler(sampler)
    ).sample(ctx, shape=(4, 2), rng=seeded(7))
    found = draw(network, dataclasses.replace(plain, guidance=Guidance(1.8)))
    torch.testing.assert_close(found, draw(mixed, plain), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, draw(network, plain), atol=1e-2)


def test_drop():
    ctx = context(4)
    keep = torch.tensor([True, False, True, False])
    found = drop(ctx, keep).vector
    assert torch.equal(found[keep], ctx.vector[keep])
    assert (found[~keep] == 0.5).all()


def test_training_drops_the_asked_share():
    seen = []

    def net(x, t, ctx):
        seen.append((ctx.vector == 0.5).all(1))
        return x

    decoder = Flow(Exact(net), drop=0.25).build(shape=(4, 2), context=ContextSpec(2))
    decoder.loss(context(4000), torch.zeros(4000, 4, 2), weight=None, rng=seeded(0))
    assert seen[0].float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_errors_name_the_part():
    with pytest.raises(ValueError, match=r"ctx\.null: guidance needs"):
        guided(network, Context(2, vector=torch.zeros(2, 2)), Guidance(2.0))
    ctx = Context(2, vector=torch.zeros(2, 2), null=Context(2))
    with pytest.raises(ValueError, match=r"ctx\.null\.vector: expected it to be present"):
        guided(network, ctx, Guidance(2.0))
    ctx = Context(2, vector=torch.zeros(2, 2), null=Context(1, vector=torch.zeros(1, 2)))
    with pytest.raises(ValueError, match=r"ctx\.null\.batch: expected 2, found 1"):
        guided(network, ctx, Guidance(2.0))
