import copy
import dataclasses
import json
import math

import pytest
import torch
from tests.decoders.oracles import MU, SD, Exact, ideal
from torch import nn

from nextmove.config import ConfigError, decode, encode
from nextmove.contracts import Context, ContextSpec, Rows, Shard, normal, seeded, total, uniform, weighted_mean
from nextmove.decoders.diffusion import Diffusion, DiffusionDecoder, Flow, Sampler, edm
from nextmove.decoders.edm import Preconditioned
from nextmove.decoders.grids import EvenLambda, EvenTime, Indices, Karras
from nextmove.decoders.guidance import Guidance
from nextmove.decoders.known import PseudoInverseGuidance
from nextmove.decoders.pairing import optimal, reflow_pairs
from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear
from nextmove.decoders.solvers import Ancestral, Ddim, DpmPP, Euler, Heun, Rk4
from nextmove.decoders.targets import target_value
from nextmove.decoders.times import Beta, Uniform
from nextmove.nn import PlainMlp
from nextmove.parts import PARTS

F64 = torch.float64
SHAPE = (4, 2)


class Net(nn.Module):
    """A small network of x, the times and the vector."""

    def __init__(self, shape, out, times, context):
        super().__init__()
        self.asked, size = [], math.prod(shape)
        self.layers = nn.Sequential(nn.Linear(size + 16 * times + context.vector, 64), nn.SiLU(), nn.Linear(64, size))

    def forward(self, x, t, ctx):
        self.asked.append((x.detach(), t.detach()))
        angle = t[..., None] * torch.exp(-torch.arange(8, dtype=t.dtype))
        parts = [x.flatten(1), angle.sin().flatten(1), angle.cos().flatten(1)]
        return self.layers(torch.cat([*parts, *([] if ctx.vector is None else [ctx.vector])], 1)).view_as(x)


@dataclasses.dataclass(frozen=True)
class Tiny:
    def build(self, *, shape, out, times, context, causal):
        assert not causal
        assert out == (shape[0] if len(shape) == 3 else shape[-1])
        torch.manual_seed(0)
        return Net(shape, out, times, context)


CONFIGS = [
    Flow(Tiny()),
    Flow(Tiny(), path=Cosine(), target="v", times=Beta()),
    Flow(Tiny(), path=VP(), target="eps", sampler=Sampler(Ddim())),
    Flow(Tiny(), prefix=2, drop=0.5, min_snr=5.0),
    Flow(Tiny(), pairing="optimal", sampler=Sampler(Heun(), 5)),
    Diffusion(Tiny()),
    Diffusion(Tiny(), target="v", min_snr=5.0, sampler=Sampler(DpmPP(), 10, Indices("trailing"))),
    Diffusion(Tiny(), target="x0", sampler=Sampler(Ddim(0.5), 10, Indices(), clip=1.0)),
    edm(Tiny()),
]


def build(config, shape=SHAPE):
    return config.build(shape=shape, context=ContextSpec(3))


def context(batch):
    vector = normal((batch, 3), seeded(50))
    return Context(batch, vector=vector, null=Context(batch, vector=torch.zeros(batch, 3)))


@pytest.mark.parametrize("config", CONFIGS)
def test_loss_is_loss_at_with_the_draws_in_the_stated_order(config):
    decoder, ctx, x = build(config), context(6), normal((6, *SHAPE), seeded(1))
    weight, g = uniform((6, 4), seeded(2)), seeded(3)
    found = decoder.loss(ctx, x, weight=weight, rng=seeded(3))
    t, noise = config.times.draw(6, g, config.path), normal(x.shape, g)
    keep = uniform((6,), g) >= config.drop if config.drop else None
    prefix = (uniform((6,), g) * (config.prefix + 1)).long() if config.prefix else None
    noise = optimal(noise, x) if config.pairing == "optimal" else noise
    twin = decoder.loss_at(ctx, x, weight=weight, t=t, noise=noise, keep=keep, prefix=prefix)
    assert found.keys() == twin.keys() == {config.target}
    assert torch.equal(total(found), total(twin))
    total(found).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_sample_is_a_function_of_its_draws(config):
    decoder, ctx = build(config), context(3)
    x = decoder.sample(ctx, shape=SHAPE, rng=seeded(4))
    assert x.shape == (3, *SHAPE)
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert not x.requires_grad
    assert torch.equal(x, decoder.sample(ctx, shape=SHAPE, rng=seeded(4)))
    assert not torch.equal(x, decoder.sample(ctx, shape=SHAPE, rng=seeded(5)))
    g = seeded(4)
    noise = normal((3, *SHAPE), g)
    count = sum(bool(s.std) for s in decoder.sampler.plan(config.path, config.target))
    steps = torch.stack([normal((3, *SHAPE), g) for _ in range(count)]) if count else None
    assert torch.equal(x, decoder.sample(ctx, shape=SHAPE, rng=seeded(99), noise=noise, step_noise=steps))


@pytest.mark.parametrize("config", [Flow(Tiny()), Diffusion(Tiny())])
def test_rows_do_not_depend_on_their_neighbours(config):
    decoder, ctx = build(config), context(3)
    rows = decoder.sample(ctx, shape=SHAPE, rng=Rows([seeded(i) for i in range(3)]))
    one = decoder.sample(ctx.map(lambda v: v[1:2]), shape=SHAPE, rng=Rows([seeded(1)]))
    torch.testing.assert_close(rows[1:2], one, rtol=1e-4, atol=1e-4)


def test_the_loss_of_all_ranks_is_that_of_one():
    decoder, ctx, x = build(Flow(Tiny())), context(6), normal((6, *SHAPE), seeded(1))
    whole = total(decoder.loss(ctx, x, weight=None, rng=seeded(3)))

    def half(r):
        mine = slice(3 * r, 3 * r + 3)
        return total(decoder.loss(ctx.map(lambda v: v[mine]), x[mine], weight=None, rng=Shard(seeded(3), r, 2)))

    torch.testing.assert_close((half(0) + half(1)) / 2, whole)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (Linear(), "velocity"),
        (Cosine(), "velocity"),
        (Cosine(), "v"),
        (VP(), "eps"),
        (Linear(), "x0"),
        (DiscreteVP(), "eps"),
    ],
)
def test_the_loss_at_its_minimum_is_the_conditional_variance(path, target):
    """For Gaussian data the perfect network's loss has a closed form: the variance of the target given x."""
    t = torch.full((40_000,), 0.41, dtype=F64)
    n = path.at(t, torch.zeros(len(t), 1, 3, dtype=F64))
    decoder = (Diffusion if isinstance(path, DiscreteVP) else Flow)(
        Exact(lambda x, t, ctx: ideal(target, x, n)), path=path, target=target, sampler=Sampler(Ddim(), 5, _grid(path))
    ).build(shape=(1, 3), context=ContextSpec())
    x1, e = normal((len(t), 1, 3), seeded(0)).double() * SD + MU, normal((len(t), 1, 3), seeded(1)).double()
    found = total(decoder.loss_at(Context.empty(len(t)), x1, t=t, noise=e))
    one = path.node(0.41)
    unit = lambda c, d: target_value(target, torch.tensor(c), torch.tensor(d), one)  # noqa: E731
    # target = p x1 + q e and x = a x1 + b e; Var(target | x) = (p b - q a)^2 s^2 / (a^2 s^2 + b^2).
    p, q = unit(1.0, 0.0), unit(0.0, 1.0)
    exact = ((p * one.b - q * one.a) ** 2 * SD**2 / (one.a**2 * SD**2 + one.b**2)).mean()
    assert found.item() == pytest.approx(exact.item(), rel=0.02)


def _grid(path):
    return Indices() if isinstance(path, DiscreteVP) else EvenTime(0.01, 1.0)


@pytest.mark.parametrize("solver", [Rk4(), Heun(), DpmPP()])
def test_a_perfect_network_samples_the_data(solver):
    path, grid = Cosine(), EvenLambda() if isinstance(solver, DpmPP) else EvenTime()
    net = Exact(lambda x, t, ctx: ideal("v", x, path.node(float(t[0, 0]) / 1000)))
    config = Flow(net, path=path, target="v", sampler=Sampler(solver, 60, grid))
    noise = normal((20_000, 1, 3), seeded(0)).double()
    x = config.build(shape=(1, 3), context=ContextSpec()).sample(
        Context.empty(20_000), shape=(1, 3), rng=seeded(0), noise=noise
    )
    torch.testing.assert_close(x.mean((0, 1)), MU, rtol=0.03, atol=0.03)
    torch.testing.assert_close(x.std((0, 1)), SD, rtol=0.04, atol=0.002)


def test_what_the_network_reads():
    for config, first, count in ((Flow(Tiny()), 0.0, 10), (Diffusion(Tiny()), 99.0, 100)):
        decoder = build(config)
        decoder.sample(context(2), shape=SHAPE, rng=seeded(0))
        times = [t for _, t in decoder.net.asked]
        assert len(times) == count
        assert times[0].tolist() == [[first], [first]]
        assert times[1].tolist() == [[100.0 if first == 0 else 98.0]] * 2
    decoder.net.asked.clear()
    t = torch.tensor([decoder.config.path.time(i) for i in (0, 7, 99)])
    decoder.loss_at(context(3), torch.zeros(3, *SHAPE), t=t, noise=torch.zeros(3, *SHAPE))
    assert decoder.net.asked[0][1].tolist() == [[0.0], [7.0], [99.0]]


def test_samplers_share_weights_and_may_change():
    decoder = build(Diffusion(Tiny()))
    fast = decoder.with_sampler(Sampler(Ddim(), 10, Indices(), clip=1.0))
    assert fast.net is decoder.net
    assert decoder.sampler.steps == 100
    decoder.net.asked.clear()
    x = fast.sample(context(2), shape=SHAPE, rng=seeded(0))
    assert len(decoder.net.asked) == 10
    fast.sample(context(2), shape=SHAPE, rng=seeded(0), steps=4)
    assert len(decoder.net.asked) == 14
    with torch.no_grad():
        next(decoder.parameters()).mul_(1.5)
    assert not torch.allclose(x, fast.sample(context(2), shape=SHAPE, rng=seeded(0)))
    with pytest.raises(ConfigError, match="integrates velocities"):
        decoder.with_sampler(Sampler(Euler(), 10, Indices()))


def test_weight_zero_is_not_looked_at():
    decoder, ctx, x = build(Flow(Tiny())), context(5), normal((5, *SHAPE), seeded(1))
    t, noise = uniform((5,), seeded(2)), normal(x.shape, seeded(3))
    decoder.net = Exact(lambda x, t, ctx: 0 * x).build()
    weight = torch.ones(5, 4)
    weight[:, 3:] = 0
    loss = lambda x, w: total(decoder.loss_at(ctx, x, weight=w, t=t, noise=noise))  # noqa: E731
    padded = x.clone()
    padded[:, 3:] = 1e3
    assert torch.equal(loss(x, weight), loss(padded, weight))
    torch.testing.assert_close(loss(x, weight), loss(x, weight[..., None].expand_as(x)))
    torch.testing.assert_close(loss(x, weight), ((x - noise)[:, :3] ** 2).mean())


@pytest.mark.parametrize("target", ["eps", "x0", "v", "velocity"])
def test_min_snr_weights(target):
    path, x, e = Cosine(), normal((3, *SHAPE), seeded(0)).double(), normal((3, *SHAPE), seeded(1)).double()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    n = path.at(t, x)
    snr = (n.a / n.b) ** 2
    least = snr.clamp_max(5.0)
    expected = {
        "eps": least / snr,
        "x0": least,
        "v": least / (snr + 1),
        "velocity": least / (snr + 1) * (2 / math.pi) ** 2,
    }
    config = Flow(
        Exact(lambda x, t, ctx: 0 * x),
        path=path,
        target=target,
        min_snr=5.0,
        sampler=Sampler(DpmPP(), grid=EvenTime(0.01)),
    )
    found = total(config.build(shape=SHAPE, context=ContextSpec()).loss_at(Context.empty(3), x, t=t, noise=e))
    exact = (expected[target] * target_value(target, x, e, n) ** 2).mean()
    torch.testing.assert_close(found, exact)


def test_clean_prefix_in_training():
    decoder, ctx, x = build(Flow(Tiny(), prefix=2)), context(3), normal((3, *SHAPE), seeded(1))
    t, noise, prefix = torch.tensor([0.2, 0.5, 0.7]), normal(x.shape, seeded(3)), torch.tensor([0, 1, 2])
    found = decoder.loss_at(ctx, x, t=t, noise=noise, prefix=prefix)
    asked, times = decoder.net.asked[-1]
    torch.testing.assert_close(times, torch.stack([t * 1000, prefix.float()], 1))
    noisy = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    for row, n in enumerate(prefix.tolist()):
        assert torch.equal(asked[row, :n], x[row, :n])
        torch.testing.assert_close(asked[row, n:], noisy[row, n:])
    error = (decoder.net(asked, times, ctx) - (x - noise)) ** 2
    free = (torch.arange(4) >= prefix[:, None]).float()
    torch.testing.assert_close(total(found), weighted_mean(error, free))
    for weight in (uniform((3, 4), seeded(4)), uniform((3, 4, 2), seeded(4))):
        wide = weight if weight.dim() == 3 else weight[..., None].expand_as(x)
        found = total(decoder.loss_at(ctx, x, weight=weight, t=t, noise=noise, prefix=prefix))
        torch.testing.assert_close(found, weighted_mean(error, wide * free[..., None]))
    lengths = []
    for step in range(40):
        decoder.loss(ctx, x, weight=None, rng=seeded(step))
        lengths += decoder.net.asked[-1][1][:, 1].tolist()
    assert set(lengths) == {0.0, 1.0, 2.0}


def test_edm_preconditioning_and_weight():
    decoder, ctx = build(edm(Tiny(), sigma_data=0.5)), context(4)
    assert isinstance(decoder.net, Preconditioned)
    inner = decoder.net.net
    x1, e = 0.5 * normal((4, *SHAPE), seeded(0)), normal((4, *SHAPE), seeded(1))
    sigma = torch.tensor([0.01, 0.3, 2.0, 60.0])
    t, s = 1 - sigma.double() / 80, sigma.view(-1, 1, 1)
    found = total(decoder.loss_at(ctx, x1, t=t, noise=e))
    asked, times = inner.asked[-1]
    torch.testing.assert_close(times[:, 0], 250 * sigma.log(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(asked, (x1 + s * e) / (s**2 + 0.25).sqrt(), rtol=1e-4, atol=1e-5)
    # With that weight the loss is the plain square of the inner network against a target of unit variance.
    c_skip, c_out = 0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25).sqrt()
    goal = (x1 - c_skip * (x1 + s * e)) / c_out
    torch.testing.assert_close(found, ((inner(asked, times, ctx) - goal) ** 2).mean(), rtol=1e-3, atol=1e-5)
    inner.asked.clear()
    x = decoder.sample(ctx, shape=SHAPE, rng=seeded(0))
    assert len(inner.asked) == 35
    assert x.isfinite().all()


def test_edm_starts_from_noise_of_sigma_max():
    asked = []
    config = dataclasses.replace(edm(Exact(lambda x, t, ctx: asked.append(x) or 0 * x)), sigma_data=0.0)
    noise = normal((2, *SHAPE), seeded(0))
    config.build(shape=SHAPE, context=ContextSpec()).sample(Context.empty(2), shape=SHAPE, rng=seeded(0), noise=noise)
    torch.testing.assert_close(asked[0], 80 * noise)


def test_optimal_pairing_is_the_best_permutation_and_shortens_the_paths():
    import itertools

    noise, x = normal((5, 2, 1), seeded(0)), normal((5, 2, 1), seeded(1))
    cost = lambda order: sum(float(((noise[j] - x[i]) ** 2).sum()) for i, j in enumerate(order))  # noqa: E731
    best = min(itertools.permutations(range(5)), key=cost)
    assert torch.equal(optimal(noise, x), noise[list(best)])
    angle = torch.arange(4) * math.pi / 2
    centres = torch.stack([angle.cos(), angle.sin()], 1) * 3
    found = []
    for size in (16, 64):
        lengths = []
        for k in range(1024 // size):
            data = centres[(4 * uniform((size,), seeded(4, k))).long()] + 0.3 * normal((size, 2), seeded(2, k))
            noise = normal((size, 2), seeded(3, k))
            lengths.append(float(((data - optimal(noise, data)) ** 2).sum(1).mean()))
        found.append(sum(lengths) / len(lengths))
    assert found == pytest.approx([4.91, 4.14], abs=0.35)


def test_reflow_pairs_are_noise_and_its_image():
    decoder, ctx = build(Flow(Tiny())), context(3)
    noise, x = reflow_pairs(decoder, ctx, shape=SHAPE, rng=seeded(0), steps=20)
    assert torch.equal(x, decoder.sample(ctx, shape=SHAPE, rng=seeded(1), noise=noise, steps=20))
    assert not torch.equal(x, decoder.sample(ctx, shape=SHAPE, rng=seeded(1), noise=noise))
    # A straight flow is its own image in one step.
    straight = Flow(Exact(lambda x, t, ctx: torch.ones_like(x))).build(shape=SHAPE, context=ContextSpec())
    noise, x = reflow_pairs(straight, ctx, shape=SHAPE, rng=seeded(0), steps=1)
    torch.testing.assert_close(x, noise + 1)


@pytest.mark.parametrize(
    "config", [Flow(Tiny()), Diffusion(Tiny(), target="x0", sampler=Sampler(Ddim(), 20, Indices()))]
)
def test_overfits_two_contexts_and_one_weight_matters(config):
    decoder, ctx = build(config), Context(2, vector=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
    x = torch.tensor([0.6, -0.4]).view(2, 1, 1).expand(2, *SHAPE).clone()
    many, batch = ctx.repeat(64), x.repeat_interleave(64, 0)
    optimiser, rng = torch.optim.Adam(decoder.parameters()), seeded(0)
    for k in range(400):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - k / 400)
        optimiser.zero_grad()
        total(decoder.loss(many, batch, weight=None, rng=rng)).backward()
        optimiser.step()
    draw = lambda d: d.sample(ctx, shape=SHAPE, rng=seeded(1))  # noqa: E731
    found = draw(decoder)
    assert (found - x).abs().mean() < 0.1
    broken = copy.deepcopy(decoder)
    with torch.no_grad():
        broken.net.layers[2].bias[0] += 3.0
    assert ((draw(broken) - found).abs().amax((1, 2)) > 0.3).all()
    loaded = build(config)
    loaded.load_state_dict(decoder.state_dict())
    assert torch.equal(draw(loaded), found)


def test_images_and_double_precision():
    decoder = Flow(Tiny()).build(shape=(3, 4, 4), context=ContextSpec())
    assert decoder.sample(Context.empty(2), shape=(3, 4, 4), rng=seeded(0)).shape == (2, 3, 4, 4)
    x = decoder.double().sample(Context.empty(2), shape=(3, 4, 4), rng=seeded(0))
    assert x.dtype == F64
    loss = decoder.loss(Context.empty(2), x, weight=None, rng=seeded(0))
    assert loss["velocity"].dtype == F64


LONG = Sampler(DpmPP(), 8, Indices(spare=True), 1.0, Guidance(2.0), PseudoInverseGuidance(3.0))


@pytest.mark.parametrize("config", [*CONFIGS, Diffusion(Tiny(), sampler=LONG)])
def test_configs_survive_json(config):
    own = dataclasses.replace(config, trunk=PlainMlp())
    assert decode(type(config), json.loads(json.dumps(encode(own))), parts=PARTS) == own


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Flow(Tiny(), target="eps"), "has no velocity at t = 0"),
        (Diffusion(Tiny(), target="velocity"), "target: velocity needs a continuous path"),
        (Flow(Tiny(), sampler=Sampler(clip=1.0)), r"sampler\.clip: Euler integrates velocities"),
        (Flow(Tiny(), prefix=4), r"prefix: expected 0, or less than H"),
        (Flow(Tiny(), sigma_data=0.5), "sigma_data: EDM preconditioning needs path VE"),
        (Diffusion(Tiny(), sampler=Sampler(Ancestral(), 101, Indices())), "at most 100"),
        (Flow(Tiny(), path=VE(40.0), target="x0", sampler=Sampler(Heun(), 9, Karras())), "noisiest level"),
        (Flow(Tiny(), path=VE(), target="x0", times=Uniform(), sampler=Sampler(Heun(), 9, Karras(), clip=1.0)), "clip"),
    ],
)
def test_errors_at_build(config, message):
    with pytest.raises(ConfigError, match=message):
        build(config)


def test_errors_at_sampling():
    decoder = build(Flow(Tiny()))
    assert isinstance(decoder, DiffusionDecoder)
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, 4, 2\), found \(3, 4, 2\)"):
        decoder.sample(context(2), shape=SHAPE, rng=seeded(0), noise=torch.zeros(3, *SHAPE))
    with pytest.raises(ConfigError, match="steps: expected at least 1"):
        decoder.sample(context(2), shape=SHAPE, rng=seeded(0), steps=0)
