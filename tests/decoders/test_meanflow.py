import pytest
import torch
from tests.decoders import gauss
from tests.decoders.tiny import F64, Exact, Mlp
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded, uniform
from nextmove.decoders.meanflow import MeanFlow

EMPTY = Context.empty


def average(x: Tensor, times: Tensor) -> Tensor:
    """The exact average velocity from t to t + h, h > 0."""
    t, h = times[:, :1, None], times[:, 1:, None]
    return (gauss.move(x, t, t + h) - x) / h


EXACT = MeanFlow(Exact(average)).build(shape=(1, 1), context=ContextSpec())


def points(n: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """x (n, 1, 1), t and h (n,) with t + h <= 1."""
    x, u = normal((n, 1, 1), seeded(0)).double(), uniform((2, n), seeded(1)).double()
    t = 0.9 * u[0]
    return x, t, 0.05 + (0.95 - t) * u[1]


def test_the_exact_average_velocity_satisfies_the_identity() -> None:
    x, t, h = points()
    u, target = EXACT.target(x, t, h, gauss.velocity(x, t[:, None, None]), EMPTY(64))
    torch.testing.assert_close(u, average(x, torch.stack([t, h], 1)), atol=0.0, rtol=0.0)
    torch.testing.assert_close(target, u, atol=1e-9, rtol=0.0)


def test_conditional_velocities_have_it_as_their_mean_target() -> None:
    x, t, h = points()
    at = t[:, None, None]
    mean, sd = gauss.data_given(x, at)
    targets = []
    for node in mean - sd, mean + sd:  # two-point quadrature: exact, as the target is linear in the velocity
        noise = (x - at * node) / (1 - at)
        targets.append(EXACT.target(x, t, h, node - noise, EMPTY(64))[1])
    u = average(x, torch.stack([t, h], 1))
    torch.testing.assert_close((targets[0] + targets[1]) / 2, u, atol=1e-9, rtol=0.0)
    assert float((targets[0] - u).abs().mean()) > 0.1


def test_a_tangent_that_leaves_x_still_is_wrong() -> None:
    x, t, h = points()
    v = gauss.velocity(x, t[:, None, None])
    still = torch.func.jvp(
        lambda t, h: average(x, torch.stack([t, h], 1)), (t, h), (torch.ones_like(t), -torch.ones_like(h))
    )[1]
    u = average(x, torch.stack([t, h], 1))
    assert float((v + h[:, None, None] * still - u).abs().mean()) > 0.05


def test_an_exact_model_makes_the_data_in_any_number_of_steps() -> None:
    for steps in 1, 2, 5:
        sampled = EXACT.sample(EMPTY(2), shape=(1, 1), rng=seeded(0), noise=gauss.probe(), steps=steps)
        mean, sd = gauss.made(sampled)
        assert abs(mean - 0.7) < 1e-12
        assert abs(sd - 0.5) < 1e-12


@pytest.mark.parametrize("grad", [True, False])
def test_the_derivative_of_a_network_with_attention(grad: bool) -> None:
    torch.manual_seed(0)
    net = MeanFlow(Mlp(attention=True)).build(shape=(4, 2), context=ContextSpec(vector=3)).double()
    ctx = Context(8, vector=normal((8, 3), seeded(3)).double())
    x, v = (normal((8, 4, 2), seeded(i)).double() for i in (1, 2))
    t, h, d = torch.full((8,), 0.3, dtype=F64), torch.full((8,), 0.5, dtype=F64), 1e-6
    with torch.set_grad_enabled(grad):
        u, target = net.target(x, t, h, v, ctx)
    ahead, behind = (net.target(x + s * v, t + s, h - s, v, ctx)[0] for s in (d, -d))
    torch.testing.assert_close(target, v + 0.5 * (ahead - behind) / (2 * d), atol=1e-7, rtol=0.0)
    assert u.requires_grad == grad
    assert not target.requires_grad


def test_training_runs_under_autocast_and_with_dropout() -> None:
    torch.manual_seed(0)
    decoder = MeanFlow(Mlp(attention=True, dropout=0.2)).build(shape=(4, 2), context=ContextSpec(vector=3))
    ctx, x = Context(16, vector=normal((16, 3), seeded(1)).bfloat16()), normal((16, 4, 2), seeded(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder.loss(ctx, x, weight=None, rng=seeded(3))["mean_flow"]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in decoder.parameters())
    assert sum(float(p.grad.abs().sum()) for p in decoder.parameters()) > 0


def test_value_by_hand() -> None:
    # Rows 0 and 1 learn the velocity x - noise = 1 and 2 against an answer of 0; row 2 is padding throughout.
    net = Exact(lambda x, times: torch.zeros_like(x))
    x = torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1).expand(3, 2, 1)
    weight = torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()
    for power, floor, expected in (0.0, 0.01, (2 + 4) / 2), (0.5, 2.0, (2 / 2 + 4 / 6**0.5) / 2):
        decoder = MeanFlow(net, power=power, floor=floor).build(shape=(2, 1), context=ContextSpec())
        h = torch.tensor([0.0, 0.0, 0.5])
        terms = decoder.loss_at(EMPTY(3), x, weight=weight, t=torch.full((3,), 0.5), h=h, noise=torch.zeros(3, 2, 1))
        assert abs(float(terms["mean_flow"]) - expected) < 1e-6


def test_rows_far_and_near_are_put_back_in_place() -> None:
    torch.manual_seed(0)
    decoder = MeanFlow(Mlp(), power=0.0).build(shape=(4, 2), context=ContextSpec(vector=3))
    vector, x, noise = normal((6, 3), seeded(0)), normal((6, 4, 2), seeded(1)), normal((6, 4, 2), seeded(2))
    t, h = torch.full((6,), 0.2), torch.tensor([0.0, 0.3, 0.0, 0.0, 0.5, 0.8])
    together = decoder.loss_at(Context(6, vector=vector), x, t=t, h=h, noise=noise)["mean_flow"]
    alone = [
        decoder.loss_at(
            Context(1, vector=vector[i : i + 1]),
            x[i : i + 1],
            t=t[i : i + 1],
            h=h[i : i + 1],
            noise=noise[i : i + 1],
        )["mean_flow"]
        for i in range(6)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_loss_is_its_twin_with_times_then_share_then_noise() -> None:
    decoder = MeanFlow(Mlp(), share=0.6).build(shape=(4, 2), context=ContextSpec())
    x, rng = normal((64, 4, 2), seeded(0)), seeded(5)
    drawn = decoder.loss(EMPTY(64), x, weight=None, rng=seeded(5))
    times = torch.sigmoid(0.4 + normal((64, 2), rng))
    far = uniform((64,), rng) < 0.6
    h = torch.where(far, (times[:, 0] - times[:, 1]).abs(), torch.zeros(()))
    assert 20 < int((h > 0).sum()) < 50
    given = decoder.loss_at(EMPTY(64), x, t=times.amin(1), h=h, noise=normal(x.shape, rng))
    torch.testing.assert_close(drawn, given, atol=0.0, rtol=1e-6)
