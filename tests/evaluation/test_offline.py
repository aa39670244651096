"""Held-out errors by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.evaluation.toys import Drawn

from nextmove.contracts import Chunk, normal
from nextmove.evaluation import offline


class Linear:
    """Plans what was last seen times (1, 10), the same at every step."""

    n_obs_steps, n_action_steps, horizon = 2, 2, 3

    def act(self, obs, *, rng, known=None):
        assert set(obs) == {"observation.state"}
        return Chunk((obs["observation.state"][:, -1:] * torch.tensor([1.0, 10.0])).repeat(1, 3, 1), 0.5)


def windows(actions, states, **extra):
    state = torch.tensor(states, dtype=torch.float32)
    return {"observation.state": state, "action": torch.tensor(actions, dtype=torch.float32), **extra}


STATES = [[[9, 9], [1, 2]], [[9, 9], [0, 0]]]
# Plans are (1, 20) and (0, 0); errors by step: (0, 0), (1, 2), (2, 4) and (0, 0), (0, 3), (3, 3).
ACTIONS = [[[1, 20], [2, 22], [3, 24]], [[0, 0], [0, 3], [-3, 3]]]


def test_errors_by_hand():
    found = offline(Linear(), [windows(ACTIONS, STATES)])
    assert found.windows == 2
    assert found.mae == pytest.approx(18 / 12)
    assert found.rmse == pytest.approx(math.sqrt((1 + 4 + 4 + 16 + 9 + 9 + 9) / 12))
    np.testing.assert_allclose(found.mae_by_dim, [6 / 6, 12 / 6])
    np.testing.assert_allclose(found.mae_by_step, [0, 6 / 4, 12 / 4])
    np.testing.assert_allclose(found.rmse_by_step, [0, math.sqrt(14 / 4), math.sqrt(38 / 4)])
    np.testing.assert_allclose(found.rmse_by_dim, [math.sqrt(14 / 6), math.sqrt(38 / 6)])
    assert found.best_mae == pytest.approx(found.mae)
    assert found.spread == 0
    assert found.loss == {}
    assert math.isnan(found.jerk)


def test_batches_add_up():
    whole = offline(Linear(), [windows(ACTIONS, STATES)])
    parts = offline(Linear(), [windows(ACTIONS[i : i + 1], STATES[i : i + 1]) for i in range(2)])
    assert (parts.mae, parts.rmse, parts.windows) == (whole.mae, whole.rmse, 2)


def test_padding_and_nan_are_left_out():
    pad = torch.tensor([[False, False, True], [False, False, False]])
    actions = torch.tensor(ACTIONS, dtype=torch.float32)
    actions[1, 2, 0] = float("nan")
    found = offline(Linear(), [windows(actions.tolist(), STATES, action_is_pad=pad)])
    assert found.mae == pytest.approx((1 + 2 + 3 + 3) / 9)
    np.testing.assert_allclose(found.mae_by_step, [0, 6 / 4, 3 / 1])
    assert found.non_finite == 0


def test_now_aligns_plans_with_demonstrations():
    earlier = [[[-7, -7], *rows] for rows in ACTIONS]
    assert offline(Linear(), [windows(earlier, STATES)]).mae == pytest.approx(18 / 12)
    assert offline(Linear(), [windows(earlier, STATES)], now=1).mae == pytest.approx(18 / 12)
    assert offline(Linear(), [windows(ACTIONS, STATES)], now=1).mae_by_step.shape == (2,)
    with pytest.raises(ValueError, match="now: expected an index of the 3 demonstrated actions, found 3"):
        offline(Linear(), [windows(ACTIONS, STATES)], now=3)
    with pytest.raises(ValueError, match="now"):
        offline(Linear(), [windows([rows[:2] for rows in ACTIONS], STATES)])


def test_widths_have_to_agree():
    with pytest.raises(ValueError, match="expected width 1 as demonstrated, found 2"):
        offline(Linear(), [windows([[[0]] * 3] * 2, STATES)])


def test_predictions_that_are_not_finite_are_counted():
    class Broken(Linear):
        def act(self, obs, *, rng, known=None):
            chunk = super().act(obs, rng=rng)
            chunk.actions[1, 2] = float("inf")
            return chunk

    found = offline(Broken(), [windows(ACTIONS, STATES)])
    assert found.non_finite == 2
    assert found.mae == pytest.approx((18 - 6) / 10)


def test_draws_show_two_modes():
    class Torn(Linear):
        """Turns up one way and the next time the other."""

        side = 1.0

        def act(self, obs, *, rng, known=None):
            self.side = -self.side
            return Chunk(torch.full((2, 3, 2), self.side), 0.5)

    found = offline(Torn(), [windows(torch.ones(2, 3, 2).tolist(), STATES)], draws=2)
    assert found.mae == pytest.approx(1.0)
    assert found.best_mae == 0
    assert found.spread == pytest.approx(1.0)
    np.testing.assert_allclose(found.spread_by_dim, [1.0, 1.0])


def test_draws_follow_the_window_not_the_batch():
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([4, 9, 2, 7])
    state, action = torch.randn(4, 2, 2, generator=generator), torch.randn(4, 6, 2, generator=generator)
    batch = {"observation.state": state, "action": action, "index": index}
    turned = {k: v.flip(0) for k, v in batch.items()}
    one = offline(Drawn(), [batch], draws=3)
    other = offline(Drawn(), [{k: v[:1] for k, v in turned.items()}, {k: v[1:] for k, v in turned.items()}], draws=3)
    assert one.mae == pytest.approx(other.mae, rel=1e-12)
    assert one.best_mae == pytest.approx(other.best_mae, rel=1e-12)
    assert one.spread == pytest.approx(other.spread, rel=1e-6)
    assert one.mae != offline(Drawn(), [batch], draws=3, seed=1).mae
    assert one.best_mae < one.mae


def test_smoothness_of_plans_and_demonstrations():
    t = torch.arange(8.0)[None, :, None]

    class Cubic(Linear):
        def act(self, obs, *, rng, known=None):
            return Chunk(t.expand(2, 8, 1) ** 3, 0.5)

    batch = windows((t.expand(2, 8, 1) ** 2).tolist(), [[[0], [0]]] * 2)
    found = offline(Cubic(), [batch])
    assert found.jerk == pytest.approx(6 / 0.5**3)
    assert found.demo_jerk == pytest.approx(0, abs=1e-9)
    assert found.demo_roughness == pytest.approx(2)


def test_loss_and_latency_where_asked():
    class Trained(Drawn):
        def loss(self, batch, *, rng):
            return {"mse": batch["action"].square().mean() + 0 * normal((1,), rng).sum()}

    batch = windows(torch.ones(3, 6, 2).tolist(), torch.zeros(3, 2, 2).tolist())
    found = offline(Trained(), [batch, batch], latency_calls=4)
    assert found.loss == {"mse": pytest.approx(1.0)}
    assert found.latency is not None
    assert len(found.latency.ms) == 4


def test_nothing_to_judge_is_an_error():
    with pytest.raises(ValueError, match="at least one window"):
        offline(Linear(), [])
