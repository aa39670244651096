"""Known parts on a correlated Gaussian pair, where the conditional is known: how far off each method is."""

import dataclasses

import pytest
import torch
from tests.decoders.oracles import Exact
from torch import nn

from nextmove.contracts import Context, ContextSpec, Known, normal, seeded
from nextmove.decoders.diffusion import Diffusion, Flow, Sampler
from nextmove.decoders.grids import EvenTime, Indices, Karras
from nextmove.decoders.known import Inpaint, KnownPart, PseudoInverseGuidance, RePaint, Replacement, renoise
from nextmove.decoders.paths import VE, Cosine, DiscreteVP, Linear
from nextmove.decoders.solvers import Ancestral, Ddim, DpmPP, Heun, Midpoint, Rk4

F64 = torch.float64
COV = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64)
COUNT = 20_000
MEAN, STD = 1.35, 0.19**0.5


def joint(path, target):
    """The perfect network of the pair."""

    def net(x, t, ctx):
        timestep = t[0, 0].double()
        if isinstance(path, DiscreteVP):
            n = path.node(path.time(round(float(timestep))))
        else:
            n = path.node(
                float(1 - path.sigma_of(timestep) / path.sigma_max if isinstance(path, VE) else timestep / 1000)
            )
        eye = torch.eye(2, dtype=F64)
        gain = x.squeeze(-1) @ torch.linalg.inv(n.a**2 * COV + n.b**2 * eye)
        x1, e = n.a * gain @ COV, n.b * gain
        y = {"x0": x1, "eps": e, "v": n.a * e - n.b * x1, "velocity": n.da * x1 + n.db * e}[target]
        return y[..., None]

    return net


def first_known(count=COUNT, value=1.5):
    return Known(
        torch.tensor([[[value], [9.0]]], dtype=F64).repeat(count, 1, 1),
        torch.tensor([[[1.0], [0.0]]]).repeat(count, 1, 1),
    )


def second(decoder, sampler, known=None, count=COUNT):
    """Mean and spread of the second entry, the first being asserted exact."""
    g, known = seeded(0), known or first_known(count)
    noise = normal((count, 2, 1), g).double()
    x = decoder.with_sampler(sampler).sample(Context.empty(count), shape=(2, 1), rng=g, known=known, noise=noise)
    assert torch.equal(x[:, 0], known.value[:, 0])
    return x[:, 1].mean().item(), x[:, 1].std().item()


def flow(path=Linear(), target="velocity", **options):  # noqa: B008
    return Flow(Exact(joint(path, target)), path=path, target=target, **options).build(
        shape=(2, 1), context=ContextSpec()
    )


@pytest.mark.parametrize(
    ("how", "steps", "mean", "std"),
    [
        (Replacement(), 10, 0.62, 0.65),
        (Replacement(), 50, 0.665, 0.71),
        (Inpaint(), 10, 1.06, 0.588),
        (Inpaint(), 50, 1.10, 0.64),
        (RePaint(5), 10, 1.175, 0.395),
        (RePaint(5), 50, 1.19, 0.457),
        (PseudoInverseGuidance(1e9), 10, 1.20, 0.418),
        (PseudoInverseGuidance(1e9), 50, 1.258, 0.47),
        (PseudoInverseGuidance(), 10, 1.155, 0.424),
        (PseudoInverseGuidance(), 50, 1.18, 0.475),
    ],
)
def test_the_table(how, steps, mean, std):
    found = second(flow(), Sampler(steps=steps, inpainting=how))
    assert found == pytest.approx((mean, std), abs=0.025)


def test_replacement_is_far_off_and_the_others_are_closer():
    off = {
        type(h): abs(second(flow(), Sampler(steps=50, inpainting=h))[0] - MEAN)
        for h in (Replacement(), RePaint(), PseudoInverseGuidance())
    }
    assert off[Replacement] > 0.6
    assert off[PseudoInverseGuidance] < off[Replacement] / 3
    assert off[RePaint] < off[Replacement] / 3


def test_more_steps_do_not_help_replacement_but_more_resampling_does():
    assert abs(second(flow(), Sampler(steps=150, inpainting=Replacement()))[0] - MEAN) > 0.6
    many = second(flow(), Sampler(steps=40, inpainting=RePaint(30)), count=4000)
    assert many == pytest.approx((MEAN, STD), abs=0.09)


@pytest.mark.parametrize("solver", [Rk4(), Heun(), Midpoint(), DpmPP()])
def test_a_network_trained_with_a_prefix_is_exact(solver):
    """Told that the first entry is clean, the perfect network answers with the conditional's velocity."""
    asked = []

    def net(x, t, ctx):
        time, prefix = t[0, 0] / 1000, t[:, 1]
        asked.append((x[:, 0].clone(), prefix.clone()))
        assert (prefix == prefix[0]).all()
        if prefix[0] == 0:
            return joint(Linear(), "velocity")(x, t, ctx)
        mean, variance = 0.9 * x[:, 0], 0.19
        s2 = time**2 * variance + (1 - time) ** 2
        u = mean + (time * variance - (1 - time)) / s2 * (x[:, 1] - time * mean)
        return torch.stack([torch.full_like(u, 77.0), u], 1)

    decoder = Flow(Exact(net), prefix=1).build(shape=(2, 1), context=ContextSpec())
    found = second(decoder, Sampler(solver, steps=40))
    assert found == pytest.approx((MEAN, STD), abs=0.01)
    assert all((x == 1.5).all() and (prefix == 1).all() for x, prefix in asked)
    # Nothing known: the same network generates the pair.
    x = decoder.with_sampler(Sampler(Rk4(), 20)).sample(
        Context.empty(COUNT), shape=(2, 1), rng=seeded(1), noise=normal((COUNT, 2, 1), seeded(2)).double()
    )
    assert torch.corrcoef(x[..., 0].T)[0, 1].item() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("path", "target", "solver"),
    [
        (Cosine(), "velocity", Midpoint()),
        (Cosine(), "v", Ddim()),
        (Linear(), "x0", Ddim()),
        (VE(20.0), "x0", Ddim()),
        (VE(20.0), "eps", Heun()),
        (DiscreteVP(), "eps", Ancestral()),
        (DiscreteVP(), "v", Ancestral()),
        (DiscreteVP(), "x0", Ddim()),
    ],
)
def test_guide_and_replace_on_other_paths(path, target, solver):
    grid = {DiscreteVP: Indices(), VE: Karras(sigma_max=20.0)}.get(type(path), EvenTime())
    make = Diffusion if isinstance(path, DiscreteVP) else Flow
    config = make(Exact(joint(path, target)), path=path, target=target, sampler=Sampler(solver, 50, grid))
    decoder = config.build(shape=(2, 1), context=ContextSpec())
    guide, plain = (
        second(decoder, dataclasses.replace(decoder.sampler, inpainting=how))
        for how in (PseudoInverseGuidance(), Replacement())
    )
    assert abs(guide[0] - MEAN) < 0.2
    assert abs(guide[1] - STD) < 0.1
    assert abs(plain[0] - MEAN) > 1.5 * abs(guide[0] - MEAN)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_guide_moves_x1_and_e_consistently(target):
    """Whatever the target, the pull is the same change of x1, and x stays a x1 + b e."""
    from nextmove.decoders.known import with_known

    path = DiscreteVP()
    x = normal((6, 2, 1), seeded(3)).double()
    n = path.node(0.6)
    part = KnownPart.of(first_known(6), x)

    def predict(target):
        answer = lambda x, n: joint(path, target)(x, torch.full((6, 1), n.timestep, dtype=F64), None)  # noqa: E731
        return with_known(answer, target, 0.0, PseudoInverseGuidance(), part, lambda: x, False)(x, n)

    p, other = predict(target), predict("x0")
    torch.testing.assert_close(p.x1(), other.x1(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(n.a * p.x1() + n.b * p.e(), x, rtol=1e-6, atol=1e-6)
    free = joint(path, "x0")(x, torch.full((6, 1), n.timestep, dtype=F64), None)
    jacobian = n.a * COV @ torch.linalg.inv(n.a**2 * COV + n.b**2 * torch.eye(2, dtype=F64))
    error = torch.stack([1.5 - free[:, 0, 0], torch.zeros(6, dtype=F64)], 1)
    pull = n.b * min((n.a**2 + n.b**2) / (n.a * n.b), 5.0) * error @ jacobian
    torch.testing.assert_close(p.x1()[..., 0], free[..., 0] + pull, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [Linear(), Cosine(), DiscreteVP(), VE()])
def test_renoising_has_the_marginal(path):
    now, then = path.node(0.3), path.node(0.5)
    e, z = (normal((200_000,), seeded(s)).double() for s in range(2))
    x = renoise(then.a * 3 + then.b * e, now, then, z)
    assert x.mean().item() == pytest.approx(now.a * 3, abs=0.02 * max(1, now.b))
    assert x.std().item() == pytest.approx(now.b, rel=0.01)


def test_soft_weights_pull_part_of_the_way():
    known = Known(torch.full((COUNT, 2, 1), 1.5, dtype=F64), torch.tensor([[[0.3], [0.0]]]).repeat(COUNT, 1, 1))
    x = (
        flow()
        .with_sampler(Sampler(steps=20))
        .sample(
            Context.empty(COUNT),
            shape=(2, 1),
            rng=seeded(0),
            known=known,
            noise=normal((COUNT, 2, 1), seeded(0)).double(),
        )
    )
    assert 0.3 < x[:, 0].mean() < 1.3
    assert 0.3 < x[:, 1].mean() < 1.2


@pytest.mark.parametrize("how", [Replacement(), RePaint(2), PseudoInverseGuidance(), Inpaint()])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_any_grad_mode_gives_the_same(how, mode):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(6 + 3 + 1, 6)

        def forward(self, x, t, ctx):
            return torch.tanh(self.layer(torch.cat([x.flatten(1), ctx.vector, t / 1000], 1))).view_as(x)

    class Trunk:
        def build(self, **_):
            return Net()

    decoder = Flow(Trunk()).build(shape=(3, 2), context=ContextSpec(3)).with_sampler(Sampler(steps=3, inpainting=how))

    def run():
        ctx = Context(4, vector=torch.ones(4, 3) * 0.5)
        weight = torch.zeros(4, 3, 2)
        weight[:, 0] = 1
        known = Known(torch.full((4, 3, 2), 0.7), weight)
        return decoder.sample(ctx, shape=(3, 2), rng=seeded(3), known=known)

    with mode():
        x = run()
    assert not x.requires_grad
    assert (x[:, 0] == 0.7).all()
    torch.testing.assert_close(x.clone(), run())
    assert all(p.grad is None for p in decoder.parameters())


def test_a_value_that_is_not_known_is_not_read():
    known = first_known(4)
    hole = dataclasses.replace(known, value=torch.where(known.weight > 0, known.value, torch.nan))
    for how in (Replacement(), RePaint(2), PseudoInverseGuidance(), Inpaint()):
        sampler = Sampler(steps=3, inpainting=how)
        assert second(flow(), sampler, hole, 4)[0] == pytest.approx(second(flow(), sampler, known, 4)[0])


def test_errors_name_the_field():
    decoder = Flow(Exact(joint(Linear(), "velocity")), prefix=1).build(shape=(2, 1), context=ContextSpec())
    weight = torch.zeros(3, 2, 1)
    options = {"shape": (2, 1), "rng": seeded(0), "noise": torch.zeros(3, 2, 1, dtype=F64)}
    with pytest.raises(ValueError, match=r"known\.value: expected shape \(3, 2, 1\), found \(3, 1, 1\)"):
        decoder.sample(Context.empty(3), known=Known(weight[:, :1], weight), **options)
    weight[:, 1] = 1
    with pytest.raises(ValueError, match="Inpaint needs 1 on leading positions"):
        decoder.sample(Context.empty(3), known=Known(weight, weight), **options)
    with pytest.raises(ValueError, match="trained with at most 1 leading positions, found 2"):
        decoder.sample(Context.empty(3), known=Known(weight, weight + 1), **options)
