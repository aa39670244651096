"""The expert solves the task, and its demonstrations say what they claim."""

import numpy as np
import pytest

from nextmove import sim
from nextmove.sim.pusht_expert import Planner, noisy, rollout

pytest.importorskip("gym_pusht")


@pytest.fixture(scope="module")
def env():
    return sim.make("pusht")


@pytest.mark.parametrize("seed", range(1000, 1006))
def test_solves_and_the_stored_actions_solve_again(env, seed):
    episode = rollout(env, seed, rng=np.random.default_rng(0))
    columns = episode.columns
    assert episode.success
    assert len(episode) < 200
    assert columns["next.reward"][-1] == 1
    assert np.flatnonzero(columns["next.done"]).tolist() == [len(episode) - 1]
    assert np.flatnonzero(columns["next.success"]).tolist() == [len(episode) - 1]
    observation, _ = env.reset(seed=seed)
    for row, action in enumerate(columns["action"]):
        assert observation.pop("task") == env.task.instruction
        assert all(np.array_equal(observation[name], columns[name][row]) for name in observation)
        observation, reward, terminated, _, _ = env.step(action)
        assert (np.float32(reward), terminated) == (columns["next.reward"][row], columns["next.done"][row])
    assert terminated


def test_columns_are_as_the_features_say():
    episode = sim.demonstrate("pusht", 3, cameras=["image"])
    features = sim.task("pusht").entries(["image"])
    assert episode.columns.keys() == features.keys()
    for name, entry in features.items():
        column = episode.columns[name]
        shape = [] if entry["shape"] == [1] else entry["shape"]
        assert list(column.shape) == [len(episode), *shape]
        assert column.dtype == ("uint8" if entry["dtype"] == "video" else entry["dtype"])


class Recorder:
    """An environment that remembers what was executed."""

    def __init__(self, env):
        self.env, self.executed = env, []

    def reset(self, *, seed):
        return self.env.reset(seed=seed)

    def step(self, action):
        self.executed.append(np.array(action))
        return self.env.step(action)


def test_noise_is_executed_but_not_stored(env):
    recorder = Recorder(env)
    episode = rollout(recorder, 1000, noise=5.0, rng=np.random.default_rng(3))
    clean = rollout(env, 1000, rng=np.random.default_rng(3))
    assert episode.success
    gap = np.stack(recorder.executed) - episode.columns["action"]
    assert 4 < gap.std() < 6
    assert np.allclose(episode.columns["action"][:8], clean.columns["action"][:8]), "the first plan knows no noise"
    steps = np.linalg.norm(np.diff(episode.columns["action"], axis=0), axis=1)
    assert np.median(steps) <= 18, "stored actions are as smooth as the plan"


def test_the_same_number_is_the_same_episode_whatever_came_before():
    first = sim.demonstrate("pusht", 4, noise=5.0, multimodal=True)
    sim.demonstrate("pusht", 5)
    again = sim.demonstrate("pusht", 4, noise=5.0, multimodal=True)
    for name, column in first.columns.items():
        assert np.array_equal(column, again.columns[name])
    shifted = sim.demonstrate("pusht", 1, seed=3, noise=5.0, multimodal=True)
    assert np.array_equal(shifted.columns["action"], first.columns["action"])


def test_multimodal_chooses_and_the_plain_expert_does_not(env):
    _, info = env.reset(seed=2000)
    planner = Planner()
    args = info["agent"], info["block_pose"]
    plain = {tuple(planner.plan(*args, rng=np.random.default_rng(i)).end.round(6)) for i in range(4)}
    chosen = {tuple(planner.plan(*args, margin=40, rng=np.random.default_rng(i)).end.round(6)) for i in range(12)}
    assert len(plain) == 1
    assert len(chosen) > 1
    lengths = {len(rollout(env, 2000, multimodal=True, rng=np.random.default_rng(i))) for i in range(3)}
    assert len(lengths) > 1


def test_no_push_helps_at_the_goal():
    plan = Planner().plan(np.array([400.0, 400.0]), np.array([256, 256, np.pi / 4]), rng=np.random.default_rng(0))
    assert plan is None


def test_the_noisy_share_is_spread_evenly():
    chosen = [noisy(number, 0.6) for number in range(999)]
    assert sum(chosen) == 600
    assert chosen[:5] == chosen[5:10]
    assert not any(noisy(number, 0.0) for number in range(10))
    assert all(noisy(number, 1.0) for number in range(10))


@pytest.mark.parametrize("wrong", [{"noisy_share": 1.5}, {"noise": -1.0}, {"margin": -1.0}, {"seed": -1}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        sim.demonstrate("pusht", 0, **wrong)
