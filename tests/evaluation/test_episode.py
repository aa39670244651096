"""Smoothness in closed form; plain values; files that are whole or not there."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nextmove.evaluation.episode import Trace, episode_json, jerk, plain, read_episode, roughness
from nextmove.host.files import write_text


def test_jerk_of_a_cubic_is_its_third_derivative():
    t = np.arange(20)[:, None] / 10
    assert jerk(np.concatenate([2 * t**3, 2 * t**3 + t**2], 1), 10.0) == pytest.approx(12.0)
    assert jerk(t**2, 10.0) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(jerk(t[:3], 10.0))


def test_jerk_does_not_depend_on_the_rate_it_is_sampled_at():
    slow, fast = (np.sin(np.arange(0, 6, 1 / fps))[:, None] for fps in (20, 80))
    assert jerk(slow, 20.0) == pytest.approx(jerk(fast, 80.0), rel=0.02)


def test_roughness_of_a_zigzag():
    assert roughness(np.array([[0.0], [1.0], [0.0], [1.0]])) == 2.0
    assert math.isnan(roughness(np.zeros((2, 1))))


class World:
    fps = 10.0

    def __init__(self, holds=True):
        self.holds = holds


def test_success_that_can_be_lost_is_scored_at_the_end_too():
    ended = {}
    for name, reached in (("kept", [0, 1, 1]), ("lost", [0, 1, 0]), ("never", [0, 0, 0])):
        trace, lasting = Trace(World(holds=False), 3), Trace(World(), 3)
        for success in reached:
            trace.add(np.zeros(2), 0.0, {"is_success": bool(success)})
            lasting.add(np.zeros(2), 0.0, {"is_success": bool(success)})
        result = trace.result("exact")
        ended[name] = (result.success, result.success_at_end, result.first_success)
        assert lasting.result("exact").success_at_end is None
    assert ended == {"kept": (True, True, 2), "lost": (True, False, 2), "never": (False, False, None)}
    assert math.isnan(result.steps_to_success)


def test_an_older_record_ended_with_its_success():
    trace = Trace(World(), 3)
    trace.add(np.zeros(2), 0.0, {"is_success": False})
    record = episode_json(trace.result("exact"))
    for name in ("first_success", "success_at_end"):
        del record[name]
    again = read_episode({**record, "success": True, "steps": 7})
    assert (again.steps_to_success, again.success_at_end) == (7, None)


def test_a_trace_keeps_the_best_reward_and_any_success():
    trace = Trace(World(), 3)
    for reward, success in ((0.2, False), (0.9, True), (0.4, False)):
        trace.add(np.array([reward, 0.0]), reward, {"is_success": success})
    result = trace.result("exact", [1.5])
    assert (result.seed, result.success, result.max_reward, result.steps) == (3, True, 0.9, 3)
    assert result.actions.shape == (3, 2)
    assert result.ms_per_chunk == (1.5,)


def test_success_has_to_be_reported():
    with pytest.raises(KeyError, match="is_success"):
        Trace(World(), 0).add(np.zeros(1), 0.0, {"success": True})


def test_an_episode_survives_json():
    trace = Trace(World(), 3)
    for i in range(5):
        trace.add(np.random.default_rng(i).normal(size=2), 0.1 * i, {"is_success": False})
    result = trace.result("batched")
    again = read_episode(json.loads(json.dumps(episode_json(result), allow_nan=False)))
    np.testing.assert_array_equal(again.actions, result.actions)
    np.testing.assert_array_equal(again.rewards, result.rewards)
    assert episode_json(again) == episode_json(result)
    with pytest.raises(ValueError, match="expected the keys"):
        read_episode({"seed": 1})


def test_plain_values():
    found = plain({"a": np.float32(1.5), "b": (np.nan, np.arange(2)), 3: float("inf"), "d": True})
    assert found == {"a": 1.5, "b": [None, [0, 1]], "3": None, "d": True}


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
