"""ALOHA's tasks beside gym-aloha's own environments, and their experts."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache

import numpy as np
import pytest

from nextmove import sim
from nextmove.sim import aloha_expert, mujoco_gl
from nextmove.sim.aloha import HINT

TOP, WRIST = "observation.images.top", "observation.images.left_wrist"
TASKS = ("aloha/transfer-cube", "aloha/insertion")
installed = pytest.mark.skipif(importlib.util.find_spec("gym_aloha") is None, reason="needs gym-aloha")
renders = pytest.mark.skipif(not (mujoco_gl._egl() or mujoco_gl._osmesa()), reason="needs EGL or OSMesa")


def original(name):
    """gym-aloha's environment; its three images of every step are left out, or drawn without shadows."""
    from gym_aloha.env import AlohaEnv

    env = AlohaEnv(name, obs_type="pixels_agent_pos")
    env._env.physics.model.light_castshadow[:] = 0
    env._env.physics.model.vis.quality.offsamples = 0
    return env


@cache
def shown(name, number, noise=0.0):
    """An expert's episode, played once for all tests that look at it."""
    return sim.demonstrate(name, number, noise=noise)


@installed
@pytest.mark.parametrize("name", TASKS)
def test_states_and_rewards_are_gym_alohas(name):
    columns = shown(name, 2, 0.02).columns
    theirs = original(sim.task(name).settings["task"])
    theirs._env.physics.render = lambda **size: np.zeros((1, 1, 3), np.uint8)
    states, rewards = [theirs.reset(seed=2)[0]["agent_pos"]], []
    for action in columns["action"][:-1]:
        observation, reward, *_ = theirs.step(action)
        states.append(observation["agent_pos"])
        rewards.append(reward)
    env = sim.make(name)
    ours, _ = env.reset(seed=2)
    found, earned = [ours["observation.state"]], []
    for action in columns["action"][: len(rewards)]:
        ours, reward, terminated, _, _ = env.step(action)
        found.append(ours["observation.state"])
        earned.append(reward)
        if terminated:
            break
    assert np.array_equal(np.array(found), np.array(states[: len(found)], np.float32))
    assert earned == rewards[: len(earned)]
    assert len(set(earned)) > 2, "several stages were reached"


@installed
@renders
def test_pixels_are_gym_alohas_without_shadows_at_the_size_asked_for():
    env = sim.make(TASKS[1], ["left_wrist=48x64", "top", "top_depth=24x32"])
    observation, info = env.reset(seed=3)
    assert observation["task"] == "Insert the peg into the socket."
    assert {name: observation[name].shape for name in (TOP, WRIST)} == {TOP: (480, 640, 3), WRIST: (48, 64, 3)}
    depth = observation[f"{TOP}_depth"]
    assert (depth.shape, depth.dtype) == ((24, 32, 1), np.float32)
    assert 0 < depth.min() < depth.max() < np.inf
    theirs = original("insertion")
    assert np.array_equal(theirs.reset(seed=3)[0]["pixels"]["top"], observation[TOP])
    assert np.array_equal(env.render(), observation[TOP])
    assert info["objects"].astype(np.float32) == pytest.approx(observation["observation.environment_state"])
    env.close()


@installed
def test_targets_beyond_one_are_angles_and_an_episode_ends_with_success():
    episode = shown(TASKS[0], 0)
    assert np.abs(episode.columns["action"]).max() > 1.1, "beyond gym-aloha's action space"
    env = sim.make(TASKS[0])
    env.reset(seed=0)
    for action in episode.columns["action"]:
        _, reward, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    assert (reward, terminated, info["is_success"], info["stage"]) == (4.0, True, True, 4)


@installed
@pytest.mark.parametrize(("name", "first"), [(TASKS[0], 240), (TASKS[1], 257)])
def test_the_expert_solves_with_and_without_noise_and_goes_on_for_ten_steps(name, first):
    for number, noise in ((0, 0.0), (1, 0.0), (2, 0.02)):
        episode = shown(name, number, noise)
        assert episode.success
        assert episode.info["steps"] <= first + 5
        columns = episode.columns
        assert len(episode) == episode.info["steps"] + 10
        assert np.flatnonzero(columns["next.success"])[0] == episode.info["steps"] - 1
        assert np.flatnonzero(columns["next.done"]).tolist() == [len(episode) - 1]
        assert columns.keys() == sim.task(name).entries().keys()


@installed
def test_wrists_do_not_turn_half_around():
    # Joints 3 and 5 of an arm turn about one axis where joint 4 is straight: from there each seed would go its own way.
    for seed in (0, 1, 2):
        actions = shown(TASKS[0], seed).columns["action"]
        assert np.abs(actions[:, [3, 5, 10, 12]]).max() < 2


@installed
def test_noise_is_executed_but_not_stored():
    clean, shaken = (shown(TASKS[0], 2, noise) for noise in (0.0, 0.02))
    assert np.array_equal(clean.columns["action"][:170], shaken.columns["action"][:170])
    gap = (shaken.columns["observation.state"] - clean.columns["observation.state"][: len(shaken)])[10:60]
    assert 0.005 < gap[:, [0, 1, 2, 7, 8, 9]].std() < 0.03
    half = [sim.demonstrate(TASKS[0], number, noise=0.02, noisy_share=0.5) for number in (2, 1)]
    assert np.array_equal(half[1].columns["action"], shown(TASKS[0], 1).columns["action"])
    assert np.array_equal(half[0].columns["observation.state"], shaken.columns["observation.state"])


@installed
@renders
def test_the_same_number_is_the_same_episode_whatever_came_before():
    first = shown(TASKS[1], 2, 0.02)
    again = sim.demonstrate(TASKS[1], 1, seed=1, noise=0.02, cameras={"top": (24, 32)})
    assert all(np.array_equal(again.columns[name], column) for name, column in first.columns.items())
    assert again.columns[TOP].shape == (len(again), 24, 32, 3)


def test_former_names_are_found_with_a_notice():
    with pytest.warns(FutureWarning, match="aloha-insertion is called aloha/insertion now"):
        assert sim.task("aloha-insertion") is sim.task("aloha/insertion")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "nextmove.sim._gym_aloha", raising=False)
    monkeypatch.setitem(sys.modules, "gym_aloha", None)
    monkeypatch.setitem(sys.modules, "gym_aloha.env", None)
    with pytest.raises(sim.SimulatorError, match=r"aloha/insertion: needs gym-aloha .*" + HINT + "$"):
        sim.make("aloha/insertion")


def off_the_surface(points, box, half):
    """How far points near a box, whose pose is x, y, z and a quaternion, are off its surface, m; of those near it."""
    turned = rotation(box[3:7])
    own = np.abs((points.astype(np.float64) - box[:3]) @ turned)
    own = own[(own < half + 0.004).all(1)]
    return np.abs((own - half).max(1))


def rotation(quaternion):
    """(3, 3) of a quaternion, w first."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@installed
@renders
@pytest.mark.parametrize(("name", "half"), [(TASKS[0], (0.02, 0.02, 0.02)), (TASKS[1], (0.06, 0.01, 0.01))])
def test_points_lie_on_the_surface_of_the_box_that_is_there(name, half):
    env = sim.make(name)
    low, high = (np.array(corner, np.float32) for corner in (env.task.cloud.low, env.task.cloud.high))
    actions = shown(name, 1).columns["action"]
    _, info = env.reset(seed=1)
    for steps in (0, 140, 40):
        for action in actions[:steps]:
            *_, info = env.step(action)
        actions = actions[steps:]
        cloud = env.simulator.env._views.points(env.task.cloud, 2048)
        assert cloud.shape == (2048, 3)
        assert ((cloud >= low) & (cloud <= high)).all()
        off = off_the_surface(cloud, info["objects"], np.array(half))
        assert len(off) > 15, "as it lies, in the hand, carried"
        assert np.median(off) < 1e-3
        assert off.max() < 4e-3, "what is nearer than that may be a finger"
    env.close()


@installed
@renders
def test_what_nobody_reads_is_not_drawn():
    env, rows = sim.make(TASKS[0], {TOP: (24, 32)}, points=16), []
    for blinks in (False, True):
        first, _ = env.reset(seed=1)
        env.seeing = not blinks
        rows.append((first, env.step(np.zeros(14))[0]))
        env.seeing = True
        rows[-1] += (env.step(np.zeros(14))[0],)
    env.close()
    for step, (seen, blinked) in enumerate(zip(*rows, strict=True)):
        for name, value in seen.items():
            unread = step == 1 and name in (TOP, sim.POINTS)
            assert np.array_equal(blinked[name], np.zeros_like(value) if unread else value), name
            assert name == "task" or np.any(value)


@installed
@renders
def test_an_expert_plays_in_a_world_that_shows_the_points(monkeypatch):
    monkeypatch.setattr(aloha_expert, "play", lambda environment, *args, **settings: environment)
    played = sim.demonstrate(TASKS[0], 2, points=64)
    env = sim.make(TASKS[0], points=64)
    ours, _ = env.reset(seed=2)
    theirs, _ = played.reset(seed=2)
    assert theirs[sim.POINTS].shape == (64, 3)
    assert np.array_equal(theirs[sim.POINTS], ours[sim.POINTS])
    env.close()
