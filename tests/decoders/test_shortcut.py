import pytest
import torch
from tests.decoders import gauss
from tests.decoders.tiny import F64, Exact, Mlp
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded, uniform
from nextmove.decoders.shortcut import Shortcut

EMPTY = Context.empty


def straight(x: Tensor, times: Tensor) -> Tensor:
    """The exact mean velocity of a step of 2^-level from t."""
    t, level = times[:, :1, None], times[:, 1:, None]
    d = 2.0**-level
    return (gauss.move(x, t, t + d) - x) / d


EXACT = Shortcut(Exact(straight), time_scale=1.0).build(shape=(1, 1), context=ContextSpec())


def half_steps(n: int = 64) -> dict[str, Tensor]:
    level = torch.arange(n) % 7
    t = (uniform((n,), seeded(1)).double() * 2**level).floor() / 2**level
    return {"t": t, "level": level, "noise": normal((n, 1, 1), seeded(2)).double()}


def test_two_exact_half_steps_are_the_exact_step() -> None:
    x = normal((64, 1, 1), seeded(3)).double() * 0.5 + 0.7
    terms = EXACT.loss_at(EMPTY(64), x, **half_steps())
    assert float(terms["flow"]) == 0.0
    assert float(terms["bootstrap"]) < 1e-28
    bent = Shortcut(Exact(lambda x, times: 1.01 * straight(x, times)), time_scale=1.0)
    wrong = bent.build(shape=(1, 1), context=ContextSpec()).loss_at(EMPTY(64), x, **half_steps())
    assert float(wrong["bootstrap"]) > 1e-9


def test_an_exact_model_makes_the_data_in_any_number_of_steps() -> None:
    for steps in 1, 2, 8, 128:
        sampled = EXACT.sample(EMPTY(2), shape=(1, 1), rng=seeded(0), noise=gauss.probe(), steps=steps)
        mean, sd = gauss.made(sampled)
        assert abs(mean - 0.7) < 1e-12
        assert abs(sd - 0.5) < 1e-12


def test_rows_of_the_finest_level_learn_the_velocity() -> None:
    x, noise = (normal((4, 1, 1), seeded(i)).double() for i in (1, 2))
    t, level = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=F64), torch.tensor([7, 7, 0, 7])
    terms = EXACT.loss_at(EMPTY(4), x, t=t, level=level, noise=noise)
    times = torch.stack([t, level.double()], 1)
    point = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    error = (straight(point, times) - (x - noise)).square().flatten()
    torch.testing.assert_close(terms["flow"], error[[0, 1, 3]].sum() / 4)


def test_loss_is_its_twin_and_draws_even_levels() -> None:
    decoder = Shortcut(Mlp(), share=0.25, finest=16).build(shape=(4, 2), context=ContextSpec())
    n, seen = 4000, []
    decoder.loss_at = lambda ctx, x, **given: seen.append(given) or {}
    decoder.loss(EMPTY(n), torch.zeros(n, 4, 2), weight=None, rng=seeded(0))
    t, level = seen[0]["t"], seen[0]["level"]
    counts = torch.bincount(level, minlength=5) / n
    torch.testing.assert_close(counts, torch.tensor([0.0625] * 4 + [0.75]), atol=0.02, rtol=0.0)
    assert torch.equal(t * 2**level, (t * 2**level).floor())
    assert float(t.min()) >= 0
    assert float(t.max()) == 15 / 16
    del decoder.loss_at
    x = normal((8, 4, 2), seeded(1))
    row = decoder.loss(EMPTY(8), x, weight=None, rng=seeded(2))
    rng = seeded(2)
    drawn = uniform((8, 2), rng)
    level = torch.where(drawn[:, 0] < 0.25, (drawn[:, 0] * 16).long(), 4)
    t = (drawn[:, 1] * 2.0**level).floor() / 2.0**level
    assert row == decoder.loss_at(EMPTY(8), x, t=t, level=level, noise=normal(x.shape, rng))


def test_the_teacher_is_believed_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    ctx = Context(16, vector=normal((16, 3), seeded(9)))
    decoder, teacher = (
        Shortcut(Mlp(), finest=4, share=1.0).build(shape=(4, 2), context=ContextSpec(vector=3)) for _ in range(2)
    )
    x = normal((16, 4, 2), seeded(0))
    own = decoder.loss(ctx, x, weight=None, rng=seeded(1))["bootstrap"]
    taught = decoder.loss(ctx, x, weight=None, rng=seeded(1), teacher=teacher.net)["bootstrap"]
    assert own != taught
    taught.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in decoder.parameters())


def test_clip_bounds_what_is_taught() -> None:
    x, noise = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)
    config = Shortcut(Exact(lambda x, times: torch.full_like(x, 10.0)), clip=4.0)
    decoder = config.build(shape=(1, 1), context=ContextSpec())
    terms = decoder.loss_at(EMPTY(1), x, t=torch.zeros(1), level=torch.zeros(1).long(), noise=noise)
    assert float(terms["bootstrap"]) == 36.0


@pytest.mark.parametrize("steps", [0, 3, 256])
def test_steps_are_powers_of_two(steps: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 1 to 128, found {steps}"):
        EXACT.sample(EMPTY(1), shape=(1, 1), rng=seeded(0), steps=steps)
