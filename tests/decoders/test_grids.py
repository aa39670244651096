from itertools import pairwise

import numpy as np
import pytest
import torch

from nextmove.config import ConfigError
from nextmove.decoders.grids import EvenLambda, EvenTime, Indices, Karras
from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear


def connected(pairs):
    return all(a[1] == b[0] for a, b in pairwise(pairs))


def test_even_time():
    assert EvenTime().pairs(Linear(), 4) == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    bent = [1 - t for t, _ in EvenTime(shift=3.0).pairs(Linear(), 4)]
    assert bent == pytest.approx([1, 0.9, 0.75, 0.5])
    assert EvenTime(0.01, 0.99).pairs(Linear(), 1) == [pytest.approx((0.01, 0.99))]


@pytest.mark.parametrize("path", [Linear(), Cosine(), VP()])
def test_even_lambda(path):
    grid = EvenLambda(0.01, 0.95)
    pairs = grid.pairs(path, 8)
    assert len(pairs) == 8
    assert connected(pairs)
    assert pairs[0][0] == pytest.approx(0.01)
    assert pairs[-1] == pytest.approx((0.95, 1.0))
    lam = path.lam(torch.tensor([a for a, _ in pairs], dtype=torch.float64)).numpy()
    assert np.diff(lam) == pytest.approx(np.diff(lam).mean())
    assert EvenLambda(0.01, 0.95, finish=False).pairs(path, 8)[-1][1] == pytest.approx(0.95)


def test_karras_levels():
    sigma = [80 * (1 - t) for t, _ in Karras().pairs(VE(), 18)]
    expected = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert sigma == pytest.approx(expected, rel=1e-9)
    assert Karras().pairs(VE(), 18)[-1][1] == 1
    with pytest.raises(ConfigError, match="noisiest level"):
        Karras().pairs(VE(40.0), 18)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (Indices(), [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]),
        (Indices("trailing"), [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]),
        (Indices("linspace"), [99, 88, 77, 66, 55, 44, 33, 22, 11, 0]),
        (Indices(offset=1), [91, 81, 71, 61, 51, 41, 31, 21, 11, 1]),
    ],
)
def test_index_lists(grid, expected):
    assert grid.indices(100, 10) == expected
    path = DiscreteVP(100)
    pairs = grid.pairs(path, 10)
    assert [round(path.node(a).timestep) for a, _ in pairs] == expected
    assert [round(path.node(b).timestep) for _, b in pairs] == [*expected[1:], -1]


@pytest.mark.parametrize("T", [50, 100, 1000])
def test_trailing_lists_as_many_as_asked(T):
    """Lin et al. 2024, table 2; a sum of steps of T / n may overshoot by rounding."""
    for n in range(1, T + 1):
        listed = Indices("trailing").indices(T, n)
        assert len(listed) == n
        assert listed[0] == T - 1
        assert listed[-1] >= 0


def test_even_times_finer_than_a_table_are_refused():
    path = DiscreteVP(100)
    assert len(EvenTime().pairs(path, 100)) == 100
    with pytest.raises(ConfigError, match="steps: expected fewer than 250"):
        EvenTime().pairs(path, 250)


def test_dpm_indices_count_one_more():
    listed = Indices("linspace", spare=True).indices(1000, 10)
    assert listed == [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    assert Indices(spare=True).indices(1000, 10) == [i * (1000 // 11) for i in range(10, 0, -1)]


def test_ratio_steps_back_evenly_and_end_may_be_the_first_level():
    path = DiscreteVP(100)
    pairs = Indices("linspace", ratio=True).pairs(path, 7)
    assert [round(path.node(b).timestep) for _, b in pairs] == [
        i - 14 if i >= 14 else -1 for i in (99, 82, 66, 50, 33, 16, 0)
    ]
    assert path.node(Indices(end="first").pairs(path, 10)[-1][1]).timestep == 0


def test_errors():
    with pytest.raises(ConfigError, match="Indices needs the path DiscreteVP, found Linear"):
        Indices().pairs(Linear(), 4)
    with pytest.raises(ConfigError, match="at most 100 of the table's 100 indices, found 101"):
        Indices().pairs(DiscreteVP(100), 101)
    with pytest.raises(ConfigError, match="at most 99"):
        Indices("linspace", spare=True).pairs(DiscreteVP(100), 100)
    with pytest.raises(ConfigError, match=r"grid\.offset: the first index must be below 100, found 100"):
        Indices(offset=1).pairs(DiscreteVP(100), 100)
    with pytest.raises(ConfigError, match="needs a continuous path, found DiscreteVP; use Indices"):
        EvenLambda().pairs(DiscreteVP(100), 10)
    with pytest.raises(ConfigError, match=r"start and end need finite log\(a / b\), found -inf"):
        EvenLambda(start=0.0).pairs(Linear(), 10)
