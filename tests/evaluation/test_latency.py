"""Arithmetic of latency, and that timing changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.evaluation.toys import Drawn

from nextmove.contracts import seeded
from nextmove.control import history
from nextmove.evaluation import latency
from nextmove.evaluation.latency import Latency, TimedActor

OBS = history([{"observation.state": np.zeros(2)}] * 2)


def test_rates_follow_from_the_slowest():
    found = Latency(ms=tuple(range(1, 101)), first_ms=500.0, n_action_steps=8, threads=1)
    assert found.p50 == 50.5
    assert found.p99 == pytest.approx(99.01)
    assert found.replan_hz == pytest.approx(1000 / 99.01)
    assert found.action_hz == pytest.approx(8000 / 99.01)


def test_warm_up_is_not_counted():
    class Counting(Drawn):
        calls = 0

        def act(self, obs, *, rng, known=None):
            Counting.calls += 1
            assert torch.get_num_threads() == 1
            return super().act(obs, rng=rng)

    before = torch.get_num_threads()
    found = latency(Counting(), OBS, n=5, warmup=2)
    assert Counting.calls == 7
    assert len(found.ms) == 5
    assert found.n_action_steps == 4
    assert torch.get_num_threads() == before


def test_counts_have_to_be_positive():
    with pytest.raises(ValueError, match="found 0 and 3"):
        latency(Drawn(), OBS, n=0)


def test_timing_leaves_the_plan_alone():
    actor = TimedActor(Drawn(), 10.0)
    plan = actor.act(OBS, rng=seeded(1))
    assert torch.equal(plan.actions, Drawn().act(OBS, rng=seeded(1)).actions)
    assert len(actor.drain()) == 1
    assert actor.drain() == []


def test_a_policy_for_another_rate_is_refused():
    with pytest.raises(ValueError, match=r"chunk.dt: expected 0.1 s, as the environment runs, found 0.05 s"):
        TimedActor(Drawn(fps=20.0), 10.0).act(OBS, rng=seeded(1))
