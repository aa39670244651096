"""Meta-World's tasks with the package itself, where it is installed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from nextmove import sim
from nextmove.sim import metaworld, mujoco_gl
from nextmove.sim.metaworld_expert import Expert

mujoco_gl.prepare()
pytest.importorskip("metaworld", reason="needs metaworld: " + metaworld.HINT)
import mujoco  # noqa: E402
from metaworld import env_dict  # noqa: E402
from metaworld.types import Task  # noqa: E402

EVERY = sim.find("metaworld/mt50")
STATE, SCENE = "observation.state", "observation.environment_state"


@pytest.fixture
def drawn():
    if not (mujoco_gl._egl() or mujoco_gl._osmesa()):
        pytest.skip("needs EGL or OSMesa")


def numbers(observation):
    return np.concatenate([observation[STATE], observation[SCENE]])


def played(env, seed, steps=12):
    """Observations, rewards and successes of an episode of actions drawn from the seed."""
    rng, rows = np.random.default_rng(seed), [(*numbers(env.reset(seed=seed)[0]), 0.0, False)]
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-1.5, 1.5, 4))
        assert not terminated
        assert not truncated
        rows.append((*numbers(observation), reward, info["is_success"]))
    return np.array(rows)


def test_the_table_names_the_packages_tasks_in_its_order():
    assert {task.settings["env"] for task in EVERY} == set(env_dict.ALL_V3_ENVIRONMENTS)
    assert [task.settings["env"] for task in sim.find("metaworld/mt10")] == list(env_dict.MT10_V3)


SOME = ("reach", "bin-picking", "drawer-close", "stick-pull")


@pytest.mark.parametrize(
    "task",
    [pytest.param(t, marks=() if t.name.endswith(SOME) else pytest.mark.slow, id=t.name) for t in EVERY],
)
def test_an_episode_is_a_function_of_task_and_seed(task):
    with closing(sim.make(task)) as env, closing(sim.make(task)) as other:
        first = played(env, 3)
        played(other, 100_004, steps=5)
        assert np.array_equal(played(other, 3), first), "whatever was played before, in an environment beside it"
        starts = [numbers(env.reset(seed=seed)[0]) for seed in (*range(4), *range(100_000, 100_004))]
        assert len({start.tobytes() for start in starts}) == 8
        assert all(np.any(start[-3:] != 0) for start in starts), "the goal is shown"


@pytest.mark.parametrize("name", ["window-close", "dial-turn", "pick-place", "assembly"])
def test_it_begins_as_the_packages_benchmarks_do_with_the_same_variation(name):
    task = sim.task(f"metaworld/{name}")
    with closing(sim.make(task)) as env:
        begun = numbers(env.reset(seed=9)[0])
        places = env.simulator._env.data.site_xpos.copy()
        vector = env.simulator._env._last_rand_vec
        own = env_dict.ALL_V3_ENVIRONMENTS[task.settings["env"]]()
        data = {"env_cls": type(own), "rand_vec": vector, "partially_observable": False}
        own.set_task(Task(env_name=task.settings["env"], data=pickle.dumps(data)))
        first = own.reset()[0].astype(np.float32)
        same = np.abs(first - begun).max() < 1e-3
        assert same == (name != "window-close"), "the package shows the window where it was before"
        following = numbers(env.step(np.zeros(4))[0])
        mujoco.mj_forward(env.simulator._env.model, env.simulator._env.data)
        assert np.abs(following - begun).max() < 0.02, "what is seen first is where things are"
        assert np.abs(env.simulator._env.data.site_xpos - places).max() < 0.02
        own.close()


def test_observations_are_the_packages_own():
    task = sim.task("metaworld/pick-place")
    with closing(sim.make(task)) as env:
        observation, info = env.reset(seed=5)
        env_numbers = env.simulator._env._get_obs()
        assert numbers(observation)[:18] == pytest.approx(env_numbers[:18], abs=1e-6)
        assert info["observation"].shape == (39,)
        assert observation[STATE] == pytest.approx([*env.simulator._env.get_endeff_pos(), 1.0], abs=1e-6)
        moved, _, _, _, _ = env.step([0, 0, 1, 0])
        beyond = played(env, 5, steps=1)
        assert moved[SCENE][14:18] == pytest.approx(observation[STATE], abs=1e-6), "what was, a step ago"
        assert len(beyond) == 2


def test_an_episode_is_cut_at_500_steps_and_never_stepped_further():
    with closing(sim.make("metaworld/reach")) as env:
        env.reset(seed=0)
        for _ in range(499):
            assert not env.step(np.zeros(4))[3]
        assert env.step(np.zeros(4))[3]
        with pytest.raises(sim.SimulatorError, match="again after the end of an episode"):
            env.step(np.zeros(4))
        env.reset(seed=1)
        env.step(np.zeros(4))


@pytest.mark.parametrize("name", ["reach", "drawer-open", "window-close", "pick-place"])
def test_the_expert_solves_it_within_the_actions_range(name):
    task = sim.task(f"metaworld/{name}")
    episode = sim.demonstrate(task, 2, seed=7, noise=task.noise)
    assert episode.success
    assert len(episode) == episode.info["steps"] + 10 < 200
    assert np.abs(episode.columns["action"]).max() <= 1
    assert episode.columns["action"].dtype == np.float32
    assert episode.columns["next.success"][episode.info["steps"] - 1]
    assert not episode.columns["next.success"][: episode.info["steps"] - 1].any()
    again = sim.demonstrate(task, 2, seed=7, noise=task.noise)
    assert {n: c.tolist() for n, c in again.columns.items()} == {n: c.tolist() for n, c in episode.columns.items()}


def test_noise_moves_the_hand_and_leaves_the_gripper_and_what_is_stored():
    task = sim.task("metaworld/pick-place")
    with closing(sim.make(task)) as env:
        executed = []
        step = env.simulator.step
        env.simulator.step = lambda action: executed.append(action) or step(action)
        from nextmove.sim import metaworld_expert
        from nextmove.sim.demonstration import play

        noise = metaworld_expert._Noise(0.3, np.random.default_rng(0))
        meant = play(env, 1, Expert(task), disturb=noise, after=0).columns["action"]
    off = np.array(executed) - meant
    assert np.abs(np.array(executed)).max() <= 1
    assert np.all(off[:, 3] == 0)
    assert 0.1 < off[:, :3].std() < 0.3


def test_door_opens_and_what_is_lost_again_shows_in_the_last_step():
    episode = sim.demonstrate("metaworld/door-open", 0, more=500)
    assert len(episode) == 500
    assert episode.success
    assert not episode.columns["next.success"][-1]


def test_cameras_are_upright_and_of_the_size_asked_for(drawn):
    sizes = {"corner2": (96, 96), "corner": (120, 160), "topview": (64, 64), "gripperPOV": (480, 480)}
    depths = {"corner2_depth": (96, 96), "corner_depth": (96, 96)}
    with closing(sim.make("metaworld/reach", sizes | depths)) as env:
        observation, _ = env.reset(seed=0)
        for name, size in sizes.items():
            assert observation[f"observation.images.{name}"].shape == (*size, 3)
        for name in ("corner2", "corner"):
            metres = observation[f"observation.images.{name}_depth"][..., 0]
            assert np.array_equal(metres, env.simulator.depth(name, (96, 96)))
            assert metres[:10].mean() > 1.5 * metres[-10:].mean(), "far above, near below"
        above = env.simulator.image("topview", (120, 120)).astype(int)
        green = (above[..., 0] > 150) & (above[..., 1] < 60)
        assert green.any(), "the goal is drawn"


def test_points_lie_on_what_there_is(drawn):
    task = sim.task("metaworld/pick-place")
    with closing(sim.make(task, points=512)) as env, closing(sim.make(task, points=512)) as other:
        observation, _ = env.reset(seed=11)
        cloud, place = observation[sim.POINTS], observation[SCENE][:3]
        assert cloud.shape == (512, 3)
        assert len(np.unique(cloud, axis=0)) == 512
        near = np.linalg.norm(cloud - place, axis=1)
        assert 4 <= (near < 0.035).sum() <= 60, "the puck, 2 cm around its middle"
        goal = np.linalg.norm(cloud - observation[SCENE][-3:], axis=1)
        assert (goal < 0.025).any(), "the goal's ball"
        assert (np.abs(cloud[:, 2]) > 0.003).all(), "not the table"
        other.reset(seed=3)
        assert np.array_equal(other.reset(seed=11)[0][sim.POINTS], cloud)


def test_states_need_no_opengl_and_nothing_loads_torch():
    code = (
        "import os, sys; os.environ['MUJOCO_GL'] = 'off'; from nextmove import sim;"
        "env = sim.make('metaworld/reach'); env.reset(seed=0); env.step([0, 0, 0, 0]);"
        "episode = sim.demonstrate('metaworld/reach', 0); print(len(episode), 'torch' in sys.modules)\n"
        "try: sim.make('metaworld/reach', ['corner2']).reset(seed=0)\n"
        "except sim.SimulatorError as problem: print(problem)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first.endswith(" False")
    assert "MuJoCo cannot render: MUJOCO_GL=off" in second


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(sim.SimulatorError, match=r"needs metaworld .*pip install metaworld==3\.1\.1 packaging"):
        sim.make(replace(EVERY[0], settings={"env": "button-press-v3"}))


def test_cameras_that_nobody_reads_are_not_drawn(drawn):
    view = "observation.images.corner2"
    rows = []
    for blinks in (False, True):
        with closing(sim.make("metaworld/reach", {view: (32, 32)})) as env:
            env.reset(seed=1)
            found = []
            for step in range(4):
                env.seeing = not (blinks and step % 2)
                found.append(env.step(np.full(4, 0.5))[0])
            assert env.reset(seed=1)[0][view].any()
            rows.append(found)
    for step, (seen, blinked) in enumerate(zip(*rows, strict=True)):
        assert numbers(seen).tolist() == numbers(blinked).tolist()
        assert blinked[view].any() == (step % 2 == 0)
        assert step % 2 or (seen[view] == blinked[view]).all()


@pytest.mark.parametrize("task", ["reach", "window-open"])
def test_reflections_that_are_left_out_are_in_no_image(drawn, task):
    cameras = list(sim.task("metaworld/reach").cameras)
    with closing(sim.make(f"metaworld/{task}")) as env:
        env.reset(seed=2)
        for _ in range(5):
            env.step([0.3, 0.5, -0.4, 1.0])
        found = [env.simulator.image(name.rpartition(".")[2], (96, 96)) for name in cameras]
        env.simulator._views._unmirrored = ()
        for name, image in zip(cameras, found, strict=True):
            assert (image == env.simulator.image(name.rpartition(".")[2], (96, 96))).all(), name
