"""Observed orders of convergence against the exact Gaussian flow, and the exact spread of stochastic samplers."""

import math

import pytest
import torch
from tests.decoders.oracles import flow, ideal, walk

from nextmove.config import ConfigError
from nextmove.decoders.grids import EvenLambda, EvenTime, Indices, Karras
from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear
from nextmove.decoders.solvers import Ancestral, Ddim, DpmPP, Euler, Heun, Midpoint, Prediction, Rk4, plan

F64 = torch.float64
X = torch.tensor([0.9, -0.4, 1.3], dtype=F64)
TIME, LAM = EvenTime(), EvenLambda(1e-3, 1 - 1e-3, finish=False)
SHORT = EvenTime(end=0.999)


def errors(path, target, solver, grid, x=X, counts=(20, 160, 320)):
    found = []
    for n in counts:
        steps = plan(path, target, solver, grid, n)
        exact = flow(path, steps[0].now.t, steps[-1].then.t, x)
        found.append((walk(solver, target, steps, x) - exact).abs().max().item())
    return found, math.log2(found[-2] / found[-1])


@pytest.mark.parametrize(
    ("path", "solver", "grid", "order", "first", "last"),
    [
        (Linear(), Euler(), TIME, 1.00, 0.0392, 0.0025),
        (Cosine(), Euler(), TIME, 1.00, 0.0487, 0.00313),
        (VP(), Euler(), SHORT, 0.96, 0.0298, 0.00213),
        # Third order, not second: on the linear path the leading error is (S^2)''' and S^2 is quadratic in t.
        (Linear(), Midpoint(), TIME, 3.00, 8.25e-4, 1.96e-7),
        (Cosine(), Midpoint(), TIME, 2.00, 4.18e-3, 3.58e-6),
        (Linear(), Heun(), TIME, 1.97, 5.84e-3, 3.1e-5),
        (Cosine(), Heun(), TIME, 1.95, 0.0145, 7.35e-5),
        (VP(), Heun(), SHORT, 1.99, 0.0437, 2.53e-4),
        (Linear(), Rk4(), TIME, 4.08, 3.41e-4, 1.78e-9),
        (Cosine(), Rk4(), TIME, 4.13, 1.28e-3, 1.14e-8),
        (Linear(), Ddim(), LAM, 0.99, 0.0949, 6.42e-3),
        (Cosine(), Ddim(), LAM, 0.99, 0.089, 5.99e-3),
        (VP(), Ddim(), LAM, 0.995, 0.0663, 4.38e-3),
        (Linear(), DpmPP(), LAM, 1.998, 0.0146, 6.96e-5),
        (Cosine(), DpmPP(), LAM, 1.998, 0.0131, 6.07e-5),
        (VP(), DpmPP(), LAM, 1.999, 7.70e-3, 3.29e-5),
    ],
)
def test_order(path, solver, grid, order, first, last):
    found, observed = errors(path, "velocity", solver, grid)
    assert observed == pytest.approx(order, abs=0.02)
    assert (found[0], found[-1]) == pytest.approx((first, last), rel=0.02)


@pytest.mark.parametrize("solver", [Euler(), Midpoint(), Heun(), Rk4(), Ddim(), DpmPP()])
def test_every_target_gives_the_same_run(solver):
    ends = [walk(solver, t, plan(VP(), t, solver, EvenTime(end=0.99), 9), X) for t in ("eps", "x0", "v", "velocity")]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


@pytest.mark.parametrize(("solver", "order", "last"), [(Euler(), 0.999, 4.38e-3), (Heun(), 2.08, 5.85e-5)])
def test_edm_order(solver, order, last):
    found, observed = errors(VE(), "x0", solver, Karras(), 80 * X)
    assert observed == pytest.approx(order, abs=0.01)
    assert found[-1] == pytest.approx(last, rel=0.01)


def test_edm_euler_is_ddim():
    counts = (5, 10, 20)
    assert errors(VE(), "x0", Euler(), Karras(), X, counts)[0] == pytest.approx(
        errors(VE(), "x0", Ddim(), Karras(), X, counts)[0], rel=1e-6
    )


@pytest.mark.parametrize("solver", [Ddim(), DpmPP(lower_order_final=False)])
@pytest.mark.parametrize("path", [Linear(), Cosine(), VP()])
def test_a_constant_x1_is_integrated_exactly(solver, path):
    """Both solvers integrate x exactly, so a network that always answers the same x1 costs no error."""
    steps = plan(path, "x0", solver, EvenTime(0.1, 0.9), 3)
    x, state, answer = X, None, torch.tensor([0.3, 0.2, -0.1], dtype=F64)
    for step in steps:
        x, state = solver.step(lambda x, n: Prediction(x, answer, n, "x0"), x, step, state, None)
    a, b = steps[0].now, steps[-1].then
    torch.testing.assert_close(x, b.a * answer + b.b * (X - a.a * answer) / a.b)


SPREADS = {
    10: (0.32284, 0.36161),
    20: (0.38795, 0.43045),
    50: (0.44319, 0.47192),
    100: (0.46795, 0.48585),
    250: (0.48581, 0.49427),
    500: (0.49253, 0.49709),
    1000: (0.49611, 0.49850),
}


def spread(solver, path, target, grid, n):
    """The exact standard deviation after n steps with the perfect network of N(.7, .25): every step is affine in x."""
    mu, sd = torch.tensor([0.7], dtype=F64), torch.tensor([0.5], dtype=F64)
    probe, zero = torch.tensor([[0.0], [1.0]], dtype=F64), torch.zeros(2, 1, dtype=F64)
    mean, variance = torch.zeros((), dtype=F64), torch.ones((), dtype=F64)
    for step in plan(path, target, solver, grid, n):
        predict = lambda x, k: Prediction(x, ideal(target, x, k, mu, sd), k, target)  # noqa: E731
        (start, end), _ = solver.step(predict, probe, step, None, zero)
        mean = (start + (end - start) * mean)[0]
        variance = ((end - start) ** 2 * variance + step.std**2)[0]
    return mean.item(), variance.sqrt().item()


@pytest.mark.parametrize("n", SPREADS)
def test_spread_after_n_steps(n):
    path, grid = DiscreteVP(1000, "linear"), Indices("linspace")
    found = [spread(solver, path, "eps", grid, n)[1] for solver in (Ddim(1.0), Ddim())]
    # The float32 table moves single steps by up to 1e-4 of their variance.
    assert found == pytest.approx(SPREADS[n], abs=3e-5)
    assert spread(Ancestral(), path, "x0", grid, n)[1] == pytest.approx(found[0], abs=1e-4)


def test_large_variance_ends_wider_than_small():
    path, grid = DiscreteVP(1000, "linear"), Indices("linspace")
    small, large = (spread(Ancestral(v), path, "eps", grid, 50)[1] for v in ("small", "large"))
    assert small < 0.45 < 0.5 < large


@pytest.mark.parametrize("path", [Linear(), Cosine(), VP(), VE(20.0)])
def test_ancestral_and_eta_one_agree_on_every_path_and_find_the_spread(path):
    grid = Karras(sigma_max=20.0) if isinstance(path, VE) else EvenTime()
    one, other = (spread(s, path, "x0", grid, 400) for s in (Ancestral(), Ddim(1.0)))
    assert one == pytest.approx(other, rel=1e-9)
    assert one[1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("n", [19, 20, 21, 22, 50])
def test_eta_one_after_pure_noise_leaves_nothing_to_e(n):
    """Zero terminal SNR: the first weight of e is the root of a difference that rounding may make negative."""
    path = DiscreteVP(100, zero_terminal_snr=True)
    steps = plan(path, "v", Ddim(1.0), Indices("trailing"), n)
    assert all(math.isfinite(c) for s in steps for c in (*s.c, s.std))
    assert steps[0].c[1] == pytest.approx(0, abs=1e-3)


def test_heun_and_rk4_fall_back_where_the_end_has_no_velocity():
    calls = []

    def predict(x, node):
        calls.append(node.t)
        return Prediction(x, ideal("x0", x, node), node, "x0")

    for solver, expected in ((Heun(), [0.5]), (Rk4(), [0.5, 0.75])):
        calls.clear()
        x, _ = solver.step(predict, X, plan(Linear(), "x0", solver, EvenTime(0.5), 1)[0], None, None)
        assert calls == expected
        assert x.isfinite().all()


def test_errors_name_what_does_not_fit():
    with pytest.raises(ConfigError, match="DiscreteVP with target 'v' has no velocity"):
        plan(DiscreteVP(), "v", Euler(), Indices(), 10)
    with pytest.raises(ConfigError, match="eps says nothing about x1 where a = 0"):
        plan(Linear(), "eps", Ddim(), EvenTime(), 10)
    with pytest.raises(ConfigError, match="has no velocity at t = 0"):
        plan(Linear(), "eps", Euler(), EvenTime(), 10)
    with pytest.raises(ConfigError, match="steps: expected at least 1, found 0"):
        plan(Linear(), "x0", Ddim(), EvenTime(), 0)
    step = plan(DiscreteVP(), "eps", Ancestral(), Indices(), 10)[0]
    with pytest.raises(ValueError, match="noise: expected draws"):
        Ancestral().step(lambda x, n: Prediction(x, x, n, "eps"), X, step, None, None)
