import math

import pytest
import torch

from nextmove.config import ConfigError
from nextmove.contracts import Rows, Shard, seeded
from nextmove.decoders.paths import VE, DiscreteVP, Linear
from nextmove.decoders.times import Beta, Indexed, LogitNormal, LogNormal, Mode, Uniform

COUNT = 200_000


def draws(law, path=Linear(), count=COUNT):  # noqa: B008
    return law.draw(count, seeded(1), path)


@pytest.mark.parametrize(
    ("law", "mean", "std"),
    [
        (Uniform(), 0.5, 1 / math.sqrt(12)),
        (Uniform(0.2, 0.4), 0.3, 0.2 / math.sqrt(12)),
        (LogitNormal(), 0.5, 0.2083),
        (Beta(), 1 - 0.6004, 0.2617),
        (Mode(), 0.5, 0.2155),
    ],
)
def test_mean_and_spread(law, mean, std):
    t = draws(law)
    assert 0 <= t.min() <= t.max() <= 1
    assert t.mean().item() == pytest.approx(mean, abs=4 * std / COUNT**0.5)
    assert t.std().item() == pytest.approx(std, abs=2e-3)


def test_laws_lean_the_right_way():
    assert draws(LogitNormal(1.0)).mean() > 0.6
    assert draws(Beta()).mean() < 0.45, "pi0 trains more on noisy times"


def test_edm_noise_levels():
    sigma = VE().b(draws(LogNormal(), VE()))
    assert sigma.min() > 0
    assert sigma.median().item() == pytest.approx(math.exp(-1.2), abs=0.005)
    assert sigma.log().std().item() == pytest.approx(1.2, abs=0.01)


def test_indices_are_uniform_and_exact():
    path = DiscreteVP(10)
    t = draws(Indexed(), path)
    index = path.index(t)
    assert torch.equal(t, 1 - (index + 1) / 10)
    share = torch.bincount(index, minlength=10) / COUNT
    assert (share - 0.1).abs().max() < 4e-3
    assert index.min() == 0
    assert index.max() == 9


def test_indices_need_a_table():
    with pytest.raises(ConfigError, match=r"times: Indexed needs the path DiscreteVP, found Linear"):
        draws(Indexed(), Linear(), 4)


@pytest.mark.parametrize("law", [Uniform(), LogitNormal(), Beta(), Mode(), LogNormal(), Indexed()])
def test_draws_do_not_depend_on_the_neighbours_or_the_number_of_ranks(law):
    path = DiscreteVP() if isinstance(law, Indexed) else VE()
    rows = law.draw(3, Rows([seeded(i) for i in range(3)]), path)
    assert torch.equal(rows[1], law.draw(1, Rows([seeded(1)]), path)[0])
    whole = law.draw(6, seeded(5), path)
    halves = [law.draw(3, Shard(seeded(5), rank, 2), path) for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole)
