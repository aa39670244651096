"""Results depend on seeds alone: not on workers, neighbours, order or what else fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from tests.evaluation.test_paired import played
from tests.evaluation.toys import Diverged, Drawn, Network, OncePerStep, Point, Restless, no_such_robot

from nextmove.contracts import seeded
from nextmove.control import Ensembling, Receding
from nextmove.evaluation import RolloutError, rollout
from nextmove.evaluation.replay import pick, replay
from nextmove.host.workers import SetupError

SEEDS = [7, 3, 11, 5, 2]


def same(one, other):
    assert [r.seed for r in one] == [r.seed for r in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.success, a.max_reward, a.steps) == (b.success, b.max_reward, b.steps)


def by_hand(seed, policy_seed=0):
    env, control = Point(), Receding(Drawn(), seeded(policy_seed, seed))
    obs, _ = env.reset(seed=seed)
    actions = []
    for _ in range(env.max_steps):
        actions.append(control.step(obs))
        obs, _, over, _, _ = env.step(actions[-1])
        if over:
            break
    return np.stack(actions)


def test_an_episode_is_what_a_loop_by_hand_gives():
    results = rollout(Point, Drawn, SEEDS, workers=0)
    assert [r.seed for r in results] == SEEDS
    for result in results:
        np.testing.assert_array_equal(result.actions, by_hand(result.seed))
        assert result.mode == "exact"
        assert len(result.ms_per_chunk) == -(-result.steps // 4)
    assert {r.success for r in results} == {True, False}


def test_workers_and_order_change_nothing():
    here = rollout(Point, Network, SEEDS, workers=0)
    same(here, rollout(Point, Network, SEEDS, workers=2))
    same(here[::-1], rollout(Point, Network, SEEDS[::-1], workers=0))
    same(here[1:2], rollout(Point, Network, SEEDS[1:2], workers=0))


@pytest.mark.parametrize("envs", [1, 2, 16])
def test_batches_draw_the_same_noise(envs):
    batched = rollout(Point, Drawn, SEEDS, batched=True, envs=envs)
    same(batched, rollout(Point, Drawn, SEEDS, workers=0))
    assert {r.mode for r in batched} == {"batched"}
    assert {r.ms_per_chunk for r in batched} == {()}


def test_batches_plan_together():
    sizes = []

    class Sized(Drawn):
        def act(self, obs, *, rng, known=None):
            sizes.append(len(obs["observation.state"]))
            return super().act(obs, rng=rng)

    rollout(partial(Point, stage_fright=1.0), Sized, range(6), batched=True, envs=3)
    # 25 steps are 7 plans; two rounds of three episodes, all in phase.
    assert sizes == [3] * 14


def test_policy_seed_changes_the_noise():
    one, other = (rollout(Point, Drawn, [1], workers=0, policy_seed=s)[0] for s in (0, 1))
    assert not np.array_equal(one.actions[:4], other.actions[:4])
    np.testing.assert_array_equal(other.actions, by_hand(1, policy_seed=1))


def test_steps_and_executed_actions_can_be_overruled():
    (result,) = rollout(partial(Point, stage_fright=1.0), Drawn, [1], workers=0, max_steps=9, n_action_steps=2)
    assert result.steps == 9
    assert len(result.ms_per_chunk) == 5
    (batched,) = rollout(partial(Point, stage_fright=1.0), Drawn, [1], batched=True, max_steps=9, n_action_steps=2)
    np.testing.assert_array_equal(result.actions, batched.actions)


@dataclass
class Asking(Drawn):
    """The same, asking for temporal ensembling."""

    n_action_steps: int = 1
    ensemble: float | None = 0.05


@pytest.mark.parametrize("batched", [False, True])
def test_an_actor_that_asks_for_ensembling_gets_it(batched):
    asked = rollout(Point, Asking, SEEDS, workers=0, batched=batched)
    same(asked, rollout(Point, Asking, SEEDS, workers=0, controller=partial(Ensembling, coefficient=0.05)))
    # Smoother than what the same plans give one by one.
    alone = rollout(Point, Asking, SEEDS, workers=0, batched=batched, n_action_steps=1)
    for one, other in zip(asked, alone, strict=True):
        assert (
            np.abs(np.diff(one.actions, n=2, axis=0)).mean() < 0.8 * np.abs(np.diff(other.actions, n=2, axis=0)).mean()
        )


def test_another_controller_may_stand_between():
    (result,) = rollout(partial(Point, stage_fright=1.0), Drawn, [1], workers=0, controller=OncePerStep)
    assert len(result.ms_per_chunk) == result.steps
    with pytest.raises(ValueError, match="controller: expected"):
        rollout(Point, Drawn, [1], batched=True, controller=OncePerStep)


def test_failing_and_dying_workers_are_named_and_the_others_survive():
    env = partial(Point, raise_on=3, die_on=5)
    with pytest.raises(RolloutError, match="2 of 5 episodes failed") as caught:
        rollout(env, Drawn, SEEDS, workers=1)
    failures, results = caught.value.failures, caught.value.results
    assert list(failures) == [("", 3), ("", 5)]
    assert re.fullmatch(r"RuntimeError: the gripper fell off \(.*toys.py, line \d+\)", failures["", 3])
    assert "exit code 7" in failures["", 5]
    same(results, rollout(Point, Drawn, [7, 11, 2], workers=0))


@pytest.mark.parametrize("how", [{"workers": 0}, {"batched": True, "envs": 2}])
def test_failures_here_are_named_as_well(how):
    with pytest.raises(RolloutError) as caught:
        rollout(partial(Point, raise_on=3), Drawn, SEEDS, **how)
    assert list(caught.value.failures) == [("", 3)]
    same(caught.value.results, rollout(Point, Drawn, [7, 11, 5, 2], workers=0))


def test_one_reason_of_many_seeds_is_named_once():
    with pytest.raises(RolloutError) as caught:
        rollout(Point, Diverged, [1, 2, 3, 7], workers=0)
    assert str(caught.value).count("finite") == 1
    assert "seeds 1–3, 7: " in str(caught.value)


def test_all_of_an_error_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("NEXTMOVE_TRACEBACK", "1")
    with pytest.raises(RolloutError, match="Traceback"):
        rollout(partial(Point, raise_on=3), Drawn, [3], workers=0)


@pytest.mark.parametrize("how", [{"workers": 0}, {"workers": 1}, {"batched": True}])
def test_what_cannot_be_built_is_named_at_once(how):
    with pytest.raises(SetupError, match="no such robot"):
        rollout(Point, no_such_robot, [1, 2], **how)


def test_a_diverged_policy_is_no_failure_to_count():
    with pytest.raises(RolloutError, match="finite"):
        rollout(Point, Diverged, [1], workers=0)


def test_a_seed_counts_once():
    with pytest.raises(ValueError, match="every seed once"):
        rollout(Point, Drawn, [1, 1], workers=0)
    assert rollout(Point, Drawn, [], workers=2) == []
    assert rollout(Point, Drawn, [], batched=True) == []


def test_videos_show_what_happened_failures_first(capsys):
    results = rollout(Point, Drawn, range(8), workers=0, video=3, progress=True)
    shown = [r for r in results if r.video]
    assert len(shown) == 3
    assert all(r.video_exact for r in shown)
    assert {r.success for r in shown} == {True, False}
    assert [r.seed for r in results] == list(range(8))
    assert "8/8" in capsys.readouterr().err


def test_a_replay_that_differs_says_so():
    (result,) = rollout(Restless, Drawn, [1], workers=0, video=1)
    assert result.video
    assert not result.video_exact


def test_a_film_that_fails_costs_no_result(monkeypatch):
    monkeypatch.delattr(Point, "render")
    with pytest.warns(RuntimeWarning, match="seed 1: no video: "):
        (result,) = rollout(Point, Drawn, [1], workers=0, video=1)
    assert result.video is None


def test_replay_films_first_and_last_moment():
    (result,) = rollout(Point, Drawn, [3], workers=0)
    shown = replay(Point(), result)
    assert len(shown.frames) == result.steps + 1
    assert shown.exact


def test_nothing_is_drawn_for_a_replay_but_what_is_shown():
    (result,) = rollout(Point, Drawn, [3], workers=0)
    env = Point()
    env.seeing, looked = True, []
    step = env.step
    env.step = lambda action: looked.append(env.seeing) or step(action)
    replay(env, result)
    assert looked == [False] * result.steps


@pytest.mark.parametrize("batched", [False, True])
def test_nothing_is_drawn_for_a_policy_that_reads_noise_in_its_place(batched):
    looked: dict[bool, list[bool]] = {}
    for blind in (False, True):
        world, actor, seen = Point(), Drawn(), looked.setdefault(blind, [])
        actor.blind, world.seeing = blind, True
        step = world.step
        world.step = lambda action, world=world, step=step, seen=seen: seen.append(world.seeing) or step(action)
        rollout(lambda world=world: world, lambda actor=actor: actor, [3], workers=0, batched=batched)
    assert any(looked[False])
    assert not any(looked[True])


def test_pick_takes_half_failures_and_fills_up():
    results = played([1, 0, 1, 1, 0, 0, 1])
    assert [r.seed for r in pick(results, 4)] == [1, 4, 0, 2]
    assert [r.seed for r in pick(results, 3)] == [1, 4, 0]
    assert [r.seed for r in pick(results, 99)] == [1, 4, 5, 0, 2, 3, 6]
    assert [r.seed for r in pick(played([1, 1, 0]), 3)] == [2, 0, 1]
    assert [r.seed for r in pick(played([0, 0, 0, 1]), 4)] == [0, 1, 2, 3]
