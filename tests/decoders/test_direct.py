import math

import pytest
import torch
from tests.decoders.tiny import Exact, Mlp
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, Known, Rows, normal, seeded, uniform
from nextmove.decoders.direct import Mixture, Regression

SHAPE = (3, 2)


def context(n: int) -> Context:
    return Context(n, vector=normal((n, 4), seeded(9)))


def test_the_network_reads_only_the_context() -> None:
    decoder = Regression(Exact(lambda x, t: x.new_zeros(*x.shape[:2], 2))).build(shape=SHAPE, context=ContextSpec())
    x = decoder.sample(Context(5), shape=SHAPE, rng=seeded(0))
    seen, t = decoder.net.asked[0]
    assert seen.shape == (5, 3, 0)
    assert t is None
    assert x.shape == (5, 3, 2)


def test_regression_by_hand() -> None:
    answer = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [3.0, 3.0]]])
    x = torch.tensor([[[0.0, 0.0], [2.0, 2.0], [9.0, 9.0]]])
    keep = torch.tensor([[True, True, False]])
    for loss, whole, part in ("mse", 85 / 6, 13 / 4), ("l1", 19 / 6, 7 / 4):
        decoder = Regression(Exact(lambda x, t: answer), loss=loss).build(shape=SHAPE, context=ContextSpec())
        assert decoder.loss(Context(1), x, weight=None, rng=seeded(0))[loss].item() == pytest.approx(whole)
        assert decoder.loss_at(Context(1), x, weight=keep)[loss].item() == pytest.approx(part)


def test_the_known_part_is_set() -> None:
    value, weight = torch.full((2, *SHAPE), 7.0), torch.zeros(2, *SHAPE)
    weight[:, 0], weight[:, 1] = 1.0, 0.5
    for config in Regression(Exact(lambda x, t: torch.ones(2, 3, 2))), Mixture(Exact(lambda x, t: mixture()[1][:2])):
        decoder = config.build(shape=SHAPE, context=ContextSpec())
        free = decoder.sample(Context(2), shape=SHAPE, rng=seeded(0))
        x = decoder.sample(Context(2), shape=SHAPE, rng=seeded(0), known=Known(value, weight))
        assert torch.equal(x[:, 0], value[:, 0])
        torch.testing.assert_close(x[:, 1], (value[:, 1] + free[:, 1]) / 2)
        assert torch.equal(x[:, 2], free[:, 2])


def mixture(modes: int = 5) -> tuple[Tensor, Tensor]:
    """x (4, 3, 2) and a network's answer (4, 3, modes (2 A + 1)) in float64."""
    return normal((4, *SHAPE), seeded(1)).double(), normal((4, 3, modes * 5), seeded(2)).double()


def by_hand(x: list[float], answer: list[float], modes: int = 5) -> float:
    """log p of one step: means, raw scales and logits stand one after the other."""
    mean, raw, logits = answer[: 2 * modes], answer[2 * modes : 4 * modes], answer[4 * modes :]
    terms = []
    for k in range(modes):
        term = logits[k] - math.log(sum(math.exp(v) for v in logits))
        for a in range(2):
            sd = math.log(1 + math.exp(raw[2 * k + a])) + 1e-4
            term += -0.5 * ((x[a] - mean[2 * k + a]) / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi))
        terms.append(term)
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))


def test_mixture_density_is_the_hand_sum() -> None:
    x, answer = mixture()
    decoder = Mixture(Exact(lambda x, t: answer)).build(shape=SHAPE, context=ContextSpec())
    found = decoder.log_prob(Context(4), x)
    for b in range(4):
        for h in range(3):
            assert found[b, h].item() == pytest.approx(by_hand(x[b, h].tolist(), answer[b, h].tolist()), abs=1e-9)
    assert decoder.loss(Context(4), x, weight=None, rng=seeded(0))["nll"].item() == pytest.approx(-found.mean().item())
    keep = torch.tensor([[1, 1, 0]]).bool().expand(4, 3)
    assert decoder.loss_at(Context(4), x, weight=keep)["nll"].item() == pytest.approx(-found[:, :2].mean().item())
    whole = decoder.loss_at(Context(4), x, weight=keep[..., None].expand(4, 3, 2))
    assert whole["nll"].item() == pytest.approx(-found[:, :2].mean().item())


def test_values_without_weight_are_integrated_out() -> None:
    x, answer = mixture()
    decoder = Mixture(Exact(lambda x, t: answer)).build(shape=SHAPE, context=ContextSpec())
    first = torch.tensor([1.0, 0.0]).expand(4, 3, 2)
    grid = torch.linspace(-9, 9, 601, dtype=torch.float64)
    points = (torch.stack([x[..., 0], torch.full((4, 3), v, dtype=torch.float64)], -1) for v in grid.tolist())
    density = torch.stack([decoder.log_prob(Context(4), point) for point in points])
    summed = torch.trapezoid(density.exp(), grid, dim=0).log()
    torch.testing.assert_close(decoder.log_prob(Context(4), x, first), summed, atol=1e-3, rtol=1e-3)


def two_modes(x: Tensor, t: Tensor | None) -> Tensor:
    """Means -1 and 1, raw scales 0, shares 1/4 and 3/4."""
    means = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    logits = torch.tensor([0.0, math.log(3.0)])
    return torch.cat([means, torch.zeros(4), logits]).expand(*x.shape[:2], -1)


def test_low_noise_keeps_the_choice_of_modes() -> None:
    decoder = Mixture(Exact(two_modes), modes=2).build(shape=SHAPE, context=ContextSpec())
    x = decoder.sample(Context(2000), shape=SHAPE, rng=seeded(0))
    assert float((x.abs() - 1).abs().max()) < 1e-3
    assert float((x.abs() - 1).std()) == pytest.approx(1e-4, rel=0.05)
    assert float((x > 0).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.equal(x[..., 0] > 0, x[..., 1] > 0)  # one mode a step ...
    assert 0.2 < float(((x[:, 0, 0] > 0) != (x[:, 1, 0] > 0)).float().mean()) < 0.5  # ... drawn anew at each
    spread = Mixture(Exact(two_modes), modes=2, low_noise_eval=False).build(shape=SHAPE, context=ContextSpec())
    around = spread.sample(Context(2000), shape=SHAPE, rng=seeded(0)) - x.sign()
    assert float(around.std()) == pytest.approx(math.log(2), rel=0.03)


def test_tanh_bounds_the_means() -> None:
    decoder = Mixture(Exact(lambda x, t: 100 * mixture()[1]), tanh=True).build(shape=SHAPE, context=ContextSpec())
    mean, scale, _ = decoder.modes(Context(4), mixture()[0])
    assert float(mean.abs().max()) == 1.0
    assert float(scale.min()) >= 1e-4


def test_draws_are_the_choice_then_the_noise_row_by_row() -> None:
    torch.manual_seed(0)
    decoder = Mixture(Mlp(width=32), low_noise_eval=False).build(shape=SHAPE, context=ContextSpec(vector=4))
    drawn, rng = decoder.sample(context(4), shape=SHAPE, rng=seeded(3)), seeded(3)
    choice, noise = uniform((4, 3), rng), normal((4, *SHAPE), rng)
    assert torch.equal(drawn, decoder.sample(context(4), shape=SHAPE, rng=seeded(0), choice=choice, noise=noise))
    rows = decoder.sample(context(4), shape=SHAPE, rng=Rows([seeded(i) for i in range(4)]))
    one = Context(1, vector=context(4).vector[2:3])
    torch.testing.assert_close(decoder.sample(one, shape=SHAPE, rng=Rows([seeded(2)])), rows[2:3])


def test_shape_is_checked() -> None:
    with pytest.raises(ValueError, match=r"shape: expected \(H, A\), found \(3, 8, 8\)"):
        Regression(Mlp()).build(shape=(3, 8, 8), context=ContextSpec())
