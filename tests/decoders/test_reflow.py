"""Reflow on the eight Gaussians of radius 2 and spread .1, whose flow is known, so that the teacher is exact."""

import math
from types import SimpleNamespace

import pytest
import torch
from tests.decoders.tiny import Exact, Mlp
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded, total, uniform
from nextmove.decoders.diffusion import DiffusionDecoder, Flow, Sampler
from nextmove.decoders.reflow import Pairs, simulate
from nextmove.decoders.solvers import Midpoint

SPREAD = 0.1
ANGLES = torch.arange(8) * (math.pi / 4)
CENTRES = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)


@torch.no_grad()
def straightness(decoder: DiffusionDecoder, ctx: Context, noise: Tensor, *, steps: int = 50) -> float:
    """S = mean over t and rows of |(x(1) - x(0)) - u(x(t), t)|^2 along the decoder's paths from `noise` (B, ...).

    0 for straight paths, which one Euler step follows exactly (Liu et al. 2023, eq. 6). Euler steps, equal in t.
    """
    x, velocities = noise, []
    for k in range(steps):
        u = decoder.predict(x, decoder.config.path.node(k / steps), ctx).u()
        velocities.append(u)
        x = x + u / steps
    u = torch.stack(velocities)
    return float((x - noise - u).flatten(2).square().sum(2).mean())


def velocity(x: Tensor, times: Tensor) -> Tensor:
    """E[x1 - noise | x_t = x] for the mixture: each component's own velocity, weighted by how likely it is."""
    t = times[:, :1, None] / 1000
    spread2 = (t * SPREAD) ** 2 + (1 - t) ** 2
    off = x - t * CENTRES
    each = CENTRES + (t * SPREAD**2 - (1 - t)) / spread2 * off
    share = (-(off**2).sum(2, keepdim=True) / (2 * spread2)).softmax(1)
    return (share * each).sum(1, keepdim=True)


def teacher():
    decoder = Flow(Exact(velocity), sampler=Sampler(Midpoint(), 50)).build(shape=(1, 2), context=ContextSpec())
    return SimpleNamespace(decoder=decoder, shape=(1, 2), context=lambda inputs, batch: Context.empty(batch))


def near(x: Tensor) -> tuple[float, float]:
    """Share of samples within .3 of a centre, and of the mode with fewest."""
    distance = (x.view(-1, 1, 2) - CENTRES).norm(dim=2)
    hit = distance.amin(1) < 0.3
    modes = torch.bincount(distance.argmin(1)[hit], minlength=8) / len(x)
    return float(hit.float().mean()), float(modes.min())


@pytest.mark.slow
def test_one_step_works_after_one_reflow():
    source = teacher()
    pairs = simulate(source, 8192, rng=seeded(0), steps=50, batch=2048)
    assert near(pairs.x)[0] > 0.97  # real points: .988
    torch.manual_seed(0)
    student = Flow(Mlp(width=128, layers=2)).build(shape=(1, 2), context=ContextSpec())
    optim, steps = torch.optim.AdamW(student.parameters(), lr=4e-3), 700
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 4e-3, total_steps=steps)
    for step in range(steps):
        b = pairs.batch((uniform((512,), seeded(1, step)) * len(pairs)).long())
        loss = total(student.loss(Context.empty(512), b["x"], weight=None, rng=seeded(2, step), noise=b["noise"]))
        optim.zero_grad()
        loss.backward()
        optim.step()
        schedule.step()
    ctx, noise = Context.empty(2000), normal((2000, 1, 2), seeded(3))
    exact, one = source.decoder.with_sampler(Sampler()), {"shape": (1, 2), "rng": seeded(0), "noise": noise, "steps": 1}
    before, after = near(exact.sample(ctx, **one)), near(student.eval().sample(ctx, **one))
    # One step of the exact flow lands in the middle of all.
    assert before[0] < 0.01
    assert after[0] > 0.35
    assert after[1] > 0.03
    assert straightness(student, ctx, noise) < 0.02 * straightness(exact, ctx, noise)


def test_straightness_of_known_flows():
    noise = normal((64, 1, 2), seeded(0))
    built = lambda f: Flow(Exact(f)).build(shape=(1, 2), context=ContextSpec())  # noqa: E731
    assert straightness(built(lambda x, times: torch.ones_like(x)), Context.empty(64), noise) < 1e-12
    # u = 12 t - 6 in each of two numbers: the ends coincide, and the mean square is 2 * 12.
    bent = straightness(
        built(lambda x, times: (12 * times[:, :, None] / 1000 - 6).expand_as(x)), Context.empty(64), noise
    )
    assert bent == pytest.approx(24.0, rel=2e-3)


def test_pairs_are_the_two_ends_of_one_path():
    source = teacher()
    pairs = simulate(source, 10, rng=seeded(0), steps=20, batch=4)
    assert pairs.noise.shape == pairs.x.shape == (10, 1, 2)
    again = source.decoder.sample(Context.empty(10), shape=(1, 2), rng=seeded(9), noise=pairs.noise, steps=20)
    torch.testing.assert_close(pairs.x, again, atol=1e-6, rtol=1e-5)
    # Halving the steps hardly moves them: the paths are followed to their ends.
    coarse = source.decoder.sample(Context.empty(10), shape=(1, 2), rng=seeded(9), noise=pairs.noise, steps=80)
    assert float((coarse - pairs.x).abs().median()) < 0.01
    assert len(torch.unique(pairs.noise)) == 20


def test_labels_travel_with_their_pairs():
    times = []

    def context(inputs, batch):
        times.append(inputs["label"].tolist())
        return Context(batch, vector=inputs["label"][:, None].float())

    decoder = Flow(Exact(lambda x, t: torch.zeros_like(x))).build(shape=(1, 2), context=ContextSpec(vector=1))
    source = SimpleNamespace(decoder=decoder, shape=(1, 2), context=context)
    pairs = simulate(source, 5, rng=seeded(0), steps=1, batch=2, label=torch.arange(5))
    assert times == [[0, 1], [2, 3], [4]]
    batch = pairs.batch([3, 1])
    assert batch["label"].tolist() == [3, 1]
    assert torch.equal(batch["x"], pairs.x[[3, 1]])
    assert torch.equal(batch["noise"], pairs.noise[[3, 1]])
    assert "label" not in Pairs(pairs.noise, pairs.x).batch([0])


def test_given_noise_is_what_the_loss_is_made_with():
    decoder = Flow(Mlp(width=16, layers=1), pairing="optimal").build(shape=(1, 2), context=ContextSpec())
    x, noise = normal((2, 6, 1, 2), seeded(0))
    found = decoder.loss(Context.empty(6), x, weight=None, rng=seeded(1), noise=noise)
    twin = decoder.loss_at(Context.empty(6), x, t=uniform((6,), seeded(1)), noise=noise)
    assert torch.equal(total(found), total(twin))
