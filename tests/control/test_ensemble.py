"""The running average against the definition over all plans, and against the reference's recorded numbers."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nextmove.contracts import Chunk
from nextmove.control import BatchedReceding, Receding, suited, suited_rows
from nextmove.control.ensemble import BatchedEnsembling, Ensembling, TemporalEnsemble

GOLDEN = Path(__file__).parents[1] / "golden" / "act_state" / "io.safetensors"


def offline(chunks, m):
    """For each step the weighted mean over all plans that reach it, the oldest with weight 1, in float64."""
    actions = []
    for now in range(len(chunks)):
        reach = [chunk[:, now - made] for made, chunk in enumerate(chunks[: now + 1]) if now - made < chunk.shape[1]]
        weights = [math.exp(-m * i) for i in range(len(reach))]
        mean = sum(w * plan.double() for w, plan in zip(weights, reach, strict=True)) / sum(weights)
        actions.append(mean)
    return torch.stack(actions)


@pytest.mark.parametrize("m", [0.01, 0.0, -0.3, 2.0])
@pytest.mark.parametrize("horizon", [1, 2, 7])
def test_online_equals_offline(m, horizon):
    chunks = torch.randn(20, 3, horizon, 2, generator=torch.Generator().manual_seed(0))
    ensemble = TemporalEnsemble(m)
    online, expected = torch.stack([ensemble.step(chunk) for chunk in chunks]), offline(chunks, m)
    assert (online - expected).abs().max() < 1e-6


def test_equals_the_reference():
    io = load_file(GOLDEN)
    ensemble = TemporalEnsemble(float(io["ensemble.coeff"]))
    for chunk, expected in zip(io["ensemble.chunks"], io["ensemble.actions"], strict=True):
        torch.testing.assert_close(ensemble.step(chunk), expected, rtol=0, atol=1e-6)


def test_a_positive_decay_trusts_the_oldest_plan():
    ensemble = TemporalEnsemble(5.0)
    ensemble.step(torch.zeros(1, 3, 1))
    assert ensemble.step(torch.ones(1, 3, 1)).item() < 0.01


def test_equal_plans_pass_unchanged():
    path = torch.arange(30.0)
    ensemble = TemporalEnsemble(0.01)
    for now in range(20):
        torch.testing.assert_close(ensemble.step(path[None, now : now + 8, None]), path[now].reshape(1, 1))


def test_reset_forgets():
    ensemble, chunks = TemporalEnsemble(0.1), torch.randn(3, 1, 4, 2)
    first = [ensemble.step(chunk) for chunk in chunks]
    ensemble.reset()
    again = [ensemble.step(chunk) for chunk in chunks]
    assert torch.equal(torch.stack(first), torch.stack(again))


def test_plans_are_not_written_into():
    ensemble, chunks = TemporalEnsemble(0.1), torch.randn(3, 1, 4, 2)
    kept = chunks.clone()
    for chunk in chunks:
        ensemble.step(chunk)
    assert torch.equal(chunks, kept)


def test_plans_of_another_length_are_named():
    ensemble = TemporalEnsemble()
    ensemble.step(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match="expected 4 steps as before, found 5"):
        ensemble.step(torch.zeros(1, 5, 2))


class Counting:
    """Plans (plan number) + 0, 1, 2, ... times 10, so that averages tell which plans took part."""

    n_obs_steps, n_action_steps, horizon = 1, 3, 3

    def __init__(self):
        self.calls = 0

    def act(self, obs, *, rng, known=None):
        self.calls += 1
        return Chunk(self.calls + 10 * torch.arange(3.0)[None, :, None], 0.1)


def test_control_plans_at_every_tick_and_executes_the_mean():
    actor = Counting()
    control = Ensembling(actor, torch.Generator(), coefficient=0.5)
    made = [float(control.step({"observation.state": torch.zeros(2).numpy()})[0]) for _ in range(5)]
    plans = [n + 10 * torch.arange(3.0)[None, :, None] for n in range(1, 6)]
    assert actor.calls == 5
    torch.testing.assert_close(torch.tensor(made), offline(plans, 0.5).flatten().float())
    control.reset()
    assert float(control.step({"observation.state": torch.zeros(2).numpy()})[0]) == 6


class Asking(Counting):
    """The same for as many rows as it is shown, asking for ensembling."""

    n_action_steps, ensemble = 1, 0.5

    def act(self, obs, *, rng, known=None):
        plan = super().act(obs, rng=rng)
        return Chunk(plan.actions.repeat(len(obs["observation.state"]), 1, 1), 0.1)


def test_the_controller_is_the_one_the_actor_asks_for():
    assert isinstance(suited(Asking()), Ensembling)
    assert isinstance(suited(Counting()), Receding)
    assert isinstance(suited_rows(Asking(), 2), BatchedEnsembling)
    assert isinstance(suited_rows(Asking(), 2, n_action_steps=3), BatchedReceding)
    assert isinstance(suited_rows(Counting(), 2), BatchedReceding)


def test_rows_are_ensembled_each_from_its_own_start():
    see = {"observation.state": torch.zeros(2).numpy()}
    together = suited_rows(Asking(), 2)
    for row in range(2):
        together.reset(row, torch.Generator())
    made = [together.step([see, see if tick >= 2 else None]) for tick in range(5)]
    plans = [n + 10 * torch.arange(3.0)[None, :, None] for n in range(1, 6)]
    torch.testing.assert_close(torch.tensor([float(a[0]) for a, _ in made]), offline(plans, 0.5).flatten().float())
    assert [b for _, b in made[:2]] == [None, None]
    late = torch.tensor([float(b[0]) for _, b in made[2:]])
    torch.testing.assert_close(late, offline(plans[2:], 0.5).flatten().float())
    together.reset(0)
    assert float(together.step([see, None])[0][0]) == 6
