import math

import pytest
import torch

from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear
from nextmove.decoders.targets import slope, target_value, to_e, to_u, to_x1, usable

F64 = torch.float64
TARGETS = ["eps", "x0", "v", "velocity"]
CASES = [(p, t) for p in (Linear(), Cosine(), VP(), VE(2.0)) for t in TARGETS]
CASES += [(DiscreteVP(), t) for t in TARGETS[:3]]


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, generator=g, dtype=F64), torch.randn(5, 3, generator=g, dtype=F64)


@pytest.mark.parametrize(("path", "target"), CASES)
def test_round_trip(path, target, pair):
    x1, e = pair
    times = torch.tensor([0.1, 0.35, 0.5, 0.72, 0.93], dtype=F64)
    n = path.at(times, x1)
    x = n.a * x1 + n.b * e
    y = target_value(target, x1, e, n)
    close = {"rtol": 1e-6, "atol": 1e-6} if isinstance(path, DiscreteVP) else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(to_x1(target, x, y, n), x1, **close)
    torch.testing.assert_close(to_e(target, x, y, n), e, **close)
    if not isinstance(path, DiscreteVP):
        torch.testing.assert_close(to_u(target, x, y, n), n.da * x1 + n.db * e, **close)


@pytest.mark.parametrize(("path", "target"), CASES)
def test_float_nodes_agree_with_tensor_nodes(path, target, pair):
    x, y = pair
    many, one = path.at(torch.full((5,), 0.4, dtype=F64), x), path.node(0.4)
    for convert in (to_x1, to_e, to_u):
        torch.testing.assert_close(
            convert(target, x, y, many), convert(target, x, y, one), equal_nan=True, rtol=1e-6, atol=0
        )


@pytest.mark.parametrize(("path", "target"), CASES)
def test_slope_is_how_the_answer_moves_with_the_data(path, target, pair):
    x, x1 = pair
    n = path.node(0.55)
    answer = lambda x1: target_value(target, x1, (x - n.a * x1) / n.b, n)  # noqa: E731
    moved = n.b * (answer(x1 + 1) - answer(x1))
    close = 1e-6 if isinstance(path, DiscreteVP) else 1e-9
    torch.testing.assert_close(moved, torch.full_like(x, slope(target, n)), rtol=close, atol=close)


def test_special_forms(pair):
    x, y = pair
    n = Linear().node(0.3)
    torch.testing.assert_close(to_x1("velocity", x, y, n), x + 0.7 * y)
    torch.testing.assert_close(to_e("velocity", x, y, n), x - 0.3 * y)
    n = Cosine().node(0.3)
    torch.testing.assert_close(to_u("v", x, y, n), -math.pi / 2 * y)


def test_error_weights_between_targets(pair):
    """|du|^2 = (W / b)^2 |dx1|^2: a plain velocity loss on the linear path is the x1-loss / (1 - t)^2."""
    x1, _ = pair
    n = Linear().node(0.3)
    dx1 = 0.01 * x1
    du = slope("velocity", n) / n.b * dx1
    torch.testing.assert_close(du**2, dx1**2 / (1 - 0.3) ** 2)


def test_where_a_velocity_exists():
    noise, data = Linear().node(0.0), Linear().node(1.0)
    assert [usable(t, noise) for t in TARGETS] == [False, True, True, True]
    assert [usable(t, data) for t in TARGETS] == [True, False, True, True]
    assert not usable("v", VP().node(1.0))
    assert not usable("v", DiscreteVP().node(0.5))
