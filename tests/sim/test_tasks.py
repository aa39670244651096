"""The table of tasks: what it says is so, what it lacks is named, and one environment checks every simulator."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.sim.lamps import FRONT, LAMPS, Lamps, lamp

from nextmove import sim
from nextmove.sim.base import load, shown, unseen

TOUCH, MIRROR = LAMPS


@pytest.fixture
def lamps(monkeypatch):
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)


@pytest.mark.parametrize("name", sim.SUITES)
def test_every_suite_is_of_one_robot_and_what_it_refers_to_is_there(name):
    tasks = sim.find(name)
    assert len({task.name for task in tasks}) == len(tasks)
    assert len({(task.fps, task.action, task.robot_type, task.unit) for task in tasks}) == 1
    for task in tasks:
        assert (task.features, task.cameras) == (tasks[0].features, tasks[0].cameras)
        assert sim.find(task.name)[0] == task
        assert callable(load(task.make))
        if not task.expert:
            continue
        given = inspect.signature(load(task.expert)).parameters.values()
        assert {"seed", "noise", "noisy_share", "cameras"} <= {p.name for p in given if p.kind is p.KEYWORD_ONLY}
        assert task.noise > 0


def test_a_suite_is_found_by_its_name_and_a_task_by_its_own(lamps):
    assert sim.find("lamps") == LAMPS
    assert sim.task("mirror") == MIRROR
    with pytest.raises(sim.SimulatorError, match="expected one task, found 'lamps', a suite of touch, mirror"):
        sim.make("lamps")
    with pytest.raises(
        sim.SimulatorError, match=r"such as the suites pusht, .*lamps, found 'lamp'.*did you mean 'lamps'"
    ):
        sim.find("lamp")
    with pytest.raises(sim.SimulatorError, match="found 'lantern'; `nextmove tasks` lists all"):
        sim.find("lantern")


def test_the_table_loads_no_simulator():
    code = "import sys, nextmove.sim; print([m for m in sys.modules if m.startswith('nextmove.sim.pusht')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("asked", "sized"),
    [
        ((), {}),
        (["front"], {FRONT: (8, 12)}),
        ([FRONT], {FRONT: (8, 12)}),
        (["front=4x6"], {FRONT: (4, 6)}),
        ({"front": (20, 10)}, {FRONT: (20, 10)}),
    ],
)
def test_cameras_are_shown_at_the_size_asked_for(asked, sized):
    assert TOUCH.sized(asked) == sized
    env = sim.make(TOUCH, asked)
    observation, _ = env.reset(seed=1)
    assert observation["task"] == "Touch the lamp."
    assert {n: v.shape for n, v in observation.items() if n in sized} == {n: (*s, 3) for n, s in sized.items()}
    assert observation.keys() == {"observation.state", "task", *sized}
    entries = TOUCH.entries(asked)
    assert {n: entries[n]["shape"] for n in sized} == {n: [*s, 3] for n, s in sized.items()}
    env.close()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["back"], f"expected one of touch \\({FRONT}; without depth\\), found 'back'"),
        (["front_depth"], f"expected one of touch \\({FRONT}; without depth\\), found 'front_depth'"),
        (["front=12"], "expected NAME or NAME=HEIGHTxWIDTH"),
        (["front="], "expected NAME or NAME=HEIGHTxWIDTH"),
        ({"front": (0, 4)}, "expected a positive height and width, found 0 x 4"),
    ],
)
def test_a_camera_or_size_that_there_is_not_is_named(asked, message):
    with pytest.raises(sim.SimulatorError, match=message):
        sim.make(TOUCH, asked)


def test_depth_is_a_camera_beside_that_in_colour():
    deep = replace(TOUCH, depth=True)
    assert deep.sized(["front_depth=4x6", "front"]) == {FRONT: (8, 12), f"{FRONT}_depth": (4, 6)}
    env = sim.make(deep, ["front_depth"])
    depth = env.reset(seed=1)[0][f"{FRONT}_depth"]
    assert (depth.dtype, depth.shape, np.unique(depth).tolist()) == ("float32", (8, 12, 1), [0.5, 1])
    env.close()
    entry = deep.entries(["front_depth"])[f"{FRONT}_depth"]
    assert (entry["shape"], entry["info"]) == ([8, 12, 1], {"is_depth_map": True, "depth_unit": "m"})
    blank = unseen({FRONT: (8, 12), f"{FRONT}_depth": (4, 6)})
    assert {name: (str(v.dtype), v.shape) for name, v in blank.items()} == shown(
        {FRONT: (8, 12), f"{FRONT}_depth": (4, 6)}
    )
    with pytest.raises(sim.SimulatorError, match=r"each with a depth, NAME_depth.*found 'back_depth'"):
        deep.sized(["back_depth"])
    with pytest.raises(
        sim.SimulatorError, match=r"one of pusht \(observation.image; without depth\), found 'image_depth'"
    ):
        sim.task("pusht").sized(["image_depth"])


@pytest.mark.parametrize("size", [(96, 128), (513, 513), (680, 680)])
def test_pusht_renders_no_size_that_it_would_have_to_invent(size):
    pytest.importorskip("gym_pusht", reason="PushT itself is drawn; `make` installs it")
    with pytest.raises(sim.SimulatorError, match=f"a square of at most 512 .* found {size[0]} x {size[1]}"):
        sim.make("pusht", {"image": size})


def test_pusht_is_drawn_at_the_size_asked_for():
    from cv2 import INTER_LINEAR, resize

    frames = {}
    for side in (512, 96):
        env = sim.make("pusht", {"image": (side, side)})
        frames[side] = env.reset(seed=1)[0]["observation.image"]
    assert np.array_equal(frames[96], resize(frames[512], (96, 96), interpolation=INTER_LINEAR))


@pytest.mark.parametrize(
    ("simulator", "cameras", "message"),
    [
        (
            "Cyclops",
            ["front"],
            r"touch: .*front: expected uint8 \(8, 12, 3\), found uint8 \(24, 24, 3\)",
        ),
        ("Forgetful", [], r"touch: observation: expected \['observation.state'\], found \[\]"),
    ],
)
def test_what_a_simulator_shows_is_checked(simulator, cameras, message):
    env = sim.make(replace(TOUCH, make=f"tests.sim.lamps:{simulator}"), cameras)
    with pytest.raises(sim.SimulatorError, match=message):
        env.reset(seed=0)


def test_a_task_that_can_lose_success_goes_on_after_it():
    env = sim.make(replace(TOUCH, holds=False))
    _, info = env.reset(seed=0)
    ends = [env.step([info["lamp"]])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    assert not env.holds


def test_episodes_end_as_the_task_says():
    env = sim.make(TOUCH)
    with pytest.raises(sim.SimulatorError, match="expected reset"):
        env.step([0.0])
    env.reset(seed=0)
    with pytest.raises(sim.SimulatorError, match="action: expected 1 finite numbers in m, found"):
        env.step([0.0, 1.0])
    assert [env.step([2.0])[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    _, info = env.reset(seed=0)
    assert env.step([info["lamp"]])[2:4] == (True, False)
    with pytest.raises(sim.SimulatorError, match="again after the end"):
        env.step([0.0])


def test_demonstrations_are_the_tasks_own(lamps):
    episode = sim.demonstrate("mirror", 3, cameras=["front"], seed=0, noise=0.0, noisy_share=1.0)
    assert episode.success
    assert episode.columns.keys() == MIRROR.entries(["front"]).keys()
    _, info = Lamps(MIRROR, {}).reset(seed=3)
    assert episode.columns["action"][-1, 0] == pytest.approx(-info["lamp"], abs=1e-6)
    with pytest.raises(sim.SimulatorError, match="multimodal: expected a setting of mirror's expert"):
        sim.demonstrate("mirror", 0, multimodal=True)
    with pytest.raises(sim.SimulatorError, match="touch: expected a task with a scripted expert, found one without"):
        sim.demonstrate(replace(TOUCH, expert=""), 0)


def test_a_name_is_parts_that_a_file_could_have_with_slashes_between():
    assert lamp("suite/a-b", "", 1).name == "suite/a-b"
    for name in ("/a", "a/", "a//b", "../a", "a b", ""):
        with pytest.raises(ValueError, match=f"letters, digits, -, _ and / between them, found '{name}'"):
            lamp(name, "", 1)
