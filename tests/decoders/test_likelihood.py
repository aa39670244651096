import itertools
import math

import pytest
import torch
from tests.decoders.oracles import MU, Exact, Formula, ideal
from torch import nn
from torch.distributions import Normal

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec, normal, seeded
from nextmove.decoders.diffusion import DiffusionDecoder, Flow
from nextmove.decoders.likelihood import (
    InterpolatedVP,
    Ode,
    bits_per_dim,
    continuous,
    exact_trace,
    last_time,
    log_likelihood,
    probed_trace,
)
from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear
from nextmove.decoders.solvers import Heun, Midpoint, Rk4
from nextmove.nn import Dit, Mlp, UNet2d

SD = torch.tensor([0.5, 1.5, 0.2], dtype=torch.float64)
X = torch.tensor([[0.9, -0.4, 0.25], [0.2, -2.0, 0.33]], dtype=torch.float64)
TABLE, COSINE = DiscreteVP(1000, "linear"), DiscreteVP(100)


def node_of(path, timestep):
    """The path's node by the number a network is timestep."""
    if isinstance(path, DiscreteVP):
        return InterpolatedVP(path).node(1 - (timestep + 1) / path.T)
    if isinstance(path, VE):
        return path.node(1 - math.exp(timestep * 4 / path.time_scale) / path.sigma_max)
    return path.node(timestep / path.time_scale)


def perfect(path, target):
    """A decoder whose network answers exactly for x1 ~ N(MU, SD^2)."""
    net = Formula(lambda x, t, ctx: ideal(target, x, node_of(path, float(t[0, 0])), MU, SD))
    return DiffusionDecoder(Flow(Exact(None), path, target), net)


def closed_form(path, x, end):
    """log density at x of what the exact flow makes of N(0, 1) (N(0, b^2) on VE) between t = 0 and `end`."""
    p, q = continuous(path).node(0.0), continuous(path).node(end)
    start, stop = (((n.a * SD) ** 2 + n.b**2).sqrt() for n in (p, q))
    z = p.a * MU + start / stop * (x - q.a * MU)
    return (Normal(0.0, 1.0 if p.vp else p.b).log_prob(z) + (start / stop).log()).sum(1)


def error(path, target, ode):
    end = last_time(continuous(path), target)
    q = continuous(path).node(end)
    x = q.a * X + q.b * normal(X.shape, seeded(0), like=X) if q.b else X
    expected = closed_form(path, x, end) + (3 * math.log(q.a) if q.b else 0)
    found = log_likelihood(perfect(path, target), Context.empty(2), X, rng=seeded(0), ode=ode)
    return float((found - expected).abs().max())


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (Linear(), "velocity"), (Linear(), "x0"), (Linear(), "eps"), (Cosine(), "velocity"), (Cosine(), "v"),
        (VP(), "eps"), (VP(), "velocity"), (VE(), "x0"), (TABLE, "eps"), (TABLE, "v"), (COSINE, "eps"),
    ],
)  # fmt: skip
def test_a_perfect_network_gives_the_closed_form(path, target):
    steps = 24 if isinstance(path, VE) else 12
    # The Jacobian is diagonal, so that any probe gives its trace.
    coarse, fine = (error(path, target, Ode(steps=n, trace="probe")) for n in (steps, 4 * steps))
    assert fine < 1e-5
    # Fourth order: a factor of 256 in the limit.
    assert coarse / fine > 60


@pytest.mark.parametrize(("solver", "least"), [(Midpoint(), 1.9), (Heun(), 1.9), (Rk4(), 3.7)])
def test_orders_on_the_cosine_path(solver, least):
    errors = [error(Cosine(), "velocity", Ode(solver, steps, trace="probe")) for steps in (30, 60)]
    assert math.log2(errors[0] / errors[1]) > least


def test_on_the_linear_path_it_is_the_density_of_the_data():
    found = log_likelihood(perfect(Linear(), "velocity"), Context.empty(2), X, rng=seeded(0), ode=Ode(steps=40))
    torch.testing.assert_close(found, Normal(MU, SD).log_prob(X).sum(1), atol=1e-5, rtol=0.0)


def test_noise_at_the_end_gives_a_lower_bound_that_is_tight():
    many = MU + SD * normal((4096, 3), seeded(1)).double()
    expected = Normal(MU, SD).log_prob(many).sum(1).mean()
    found = log_likelihood(perfect(TABLE, "eps"), Context.empty(4096), many, rng=seeded(2), ode=Ode(steps=30)).mean()
    # Noise of .01 against a smallest spread of .2.
    assert -0.003 < float(found - expected) < 0.0


@pytest.mark.parametrize("table", [TABLE, COSINE, DiscreteVP(1000), DiscreteVP(1000, "linear", zero_terminal_snr=True)])
def test_between_goes_through_the_table_and_never_back(table):
    path = InterpolatedVP(table)
    for index in (-1, 0, 1, table.T // 2, table.T - 1):
        now, then = path.node(table.time(index)), table.node(table.time(index))
        assert now.a == pytest.approx(then.a, abs=1e-6)
        assert now.timestep == pytest.approx(then.timestep, abs=1e-9)
    steps = [path.node(k / 5000) for k in range(5000)]
    assert all(before.a < after.a for before, after in itertools.pairwise(steps))
    middle = path.node(0.4567)
    ahead = path.node(0.4568)
    assert middle.da == pytest.approx((ahead.a - middle.a) / 1e-4, rel=1e-3)
    assert middle.db == pytest.approx((ahead.b - middle.b) / 1e-4, rel=1e-3)


TRUNKS = {
    "unet2d": (UNet2d(channels=8, multipliers=(1, 2), blocks=1, groups=4, dropout=0.3), (1, 4, 4)),
    "dit": (Dit(width=24, layers=2, heads=3, time_width=8), (1, 4, 4)),
    "mlp": (Mlp(width=16, depth=1, time_width=8), (6, 2)),
}


def trained(trunk):
    config, shape = TRUNKS[trunk]
    torch.manual_seed(0)
    decoder = Flow(config).build(shape=shape, context=ContextSpec(vector=2))
    for name, weight in decoder.named_parameters():
        nn.init.normal_(weight, mean=float("norm" in name and "weight" in name), std=0.15)
    return decoder.double(), Context(2, vector=torch.randn(2, 2).double()), torch.randn(2, *shape).double()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_trace_is_that_of_the_jacobian(trunk):
    decoder, ctx, x = trained(trunk)
    decoder.eval()
    node = Linear().node(0.3)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        value, found = exact_trace(lambda x: decoder.predict(x, node, ctx).u(), x)
    D = x[0].numel()
    for i in range(2):
        row = Context(1, vector=ctx.vector[i : i + 1])
        jacobian = torch.func.jacrev(lambda x, row=row: decoder.predict(x, node, row).u())(x[i : i + 1])
        torch.testing.assert_close(found[i], jacobian.reshape(D, D).trace())
    torch.testing.assert_close(value, decoder.predict(x, node, ctx).u())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_dropout_is_off_and_left_as_it_was(trunk):
    decoder, ctx, x = trained(trunk)
    found = [log_likelihood(decoder.train(), ctx, x, rng=seeded(0), ode=Ode(steps=2)) for _ in range(2)]
    assert decoder.training
    assert torch.equal(*found)
    other = log_likelihood(decoder, ctx.replace(vector=ctx.vector.flip(0)), x, rng=seeded(0), ode=Ode(steps=2))
    assert bool((other != found[0]).all())


def test_probes_have_the_trace_as_their_mean():
    A = torch.randn(3, 3, generator=seeded(0)).double()
    x, signs = X[:1], torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3))).double()
    found = torch.stack([probed_trace(lambda x: x @ A, x, sign[None])[1] for sign in signs])
    assert float(found.std()) > 0.1
    torch.testing.assert_close(found.mean(), A.trace())
    torch.testing.assert_close(exact_trace(lambda x: x @ A, x)[1], A.trace()[None])


def test_the_probe_is_one_for_the_whole_way_and_unbiased():
    # u = x A: log p falls by the trace, whatever x; a probe gives v' A v instead.
    A = torch.tensor([[0.3, 0.8], [0.1, -0.5]]).double()
    decoder = DiffusionDecoder(Flow(Exact(None)), Formula(lambda x, t, ctx: x @ A))
    x = torch.zeros(4096, 2).double()
    base = 2 * Normal(0.0, 1.0).log_prob(torch.zeros(())).double()
    probed = log_likelihood(decoder, Context.empty(4096), x, rng=seeded(0), ode=Ode(steps=2, trace="probe")) - base
    assert sorted({round(float(v), 6) for v in probed}) == [-0.7, 1.1]
    assert float(probed.mean()) == pytest.approx(0.2, abs=0.04)
    exact = log_likelihood(decoder, Context.empty(4), x[:4], rng=seeded(0), ode=Ode(steps=2)) - base
    torch.testing.assert_close(exact, torch.full((4,), 0.2).double())


def test_bits():
    # A uniform density on [-1, 1] knows nothing of which level it is.
    assert float(bits_per_dim(torch.tensor(-64 * math.log(2)), 64, 17)) == pytest.approx(math.log2(17))


def test_errors():
    with pytest.raises(ConfigError, match=r"ode\.end: VP with target 'v' has no velocity at t = 1"):
        log_likelihood(perfect(VP(), "v"), Context.empty(2), X, rng=seeded(0), ode=Ode(end=1.0))
    decoder = Flow(Mlp(width=8, depth=1, time_width=8), prefix=2).build(shape=(6, 2), context=ContextSpec())
    with pytest.raises(ValueError, match="trained without a prefix"):
        log_likelihood(decoder, Context.empty(1), torch.zeros(1, 6, 2), rng=seeded(0))
