"""ALOHA's tasks around a stand-in for gym-aloha (`benchmarks/aloha_parity.py` compares with the real one)."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nextmove import sim
from nextmove.sim.aloha import HINT

TOP, WRIST = "observation.images.top", "observation.images.left_wrist"


class Physics:
    model = SimpleNamespace(vis=SimpleNamespace(global_=SimpleNamespace(offheight=480, offwidth=640)))

    def render(self, *, height, width, camera_id):
        return np.full((height, width, 3), len(camera_id), np.uint8)


class Task:
    """As gym-aloha's, rendering what nobody asked for."""

    def __init__(self):
        self.qpos = np.zeros(14)

    def get_qpos(self, physics):
        return self.qpos

    def get_observation(self, physics):
        raise AssertionError("three cameras rendered")


class Inner:
    def __init__(self):
        self.physics, self.task, self.closed = Physics(), Task(), False

    def close(self):
        self.closed = True


class AlohaEnv:
    """The stages 0 to 4, one a step."""

    def __init__(self, task, obs_type):
        assert obs_type == "pixels_agent_pos"
        self.name, self._env, self.stage = task, Inner(), 0

    def reset(self, seed):
        self.stage, self._env.task.qpos = 0, np.full(14, seed / 10)
        return self._format_raw_obs(self._env.task.get_observation(self._env.physics)), {"is_success": False}

    def step(self, action):
        self.stage, self._env.task.qpos = self.stage + 1, np.array(action, np.float64)
        observation = self._format_raw_obs(self._env.task.get_observation(self._env.physics))
        return observation, self.stage, np.bool_(self.stage == 4), False, {"is_success": np.bool_(self.stage == 4)}


@pytest.fixture
def gym_aloha(monkeypatch):
    module = ModuleType("gym_aloha.env")
    module.AlohaEnv = AlohaEnv
    monkeypatch.setitem(sys.modules, "gym_aloha", ModuleType("gym_aloha"))
    monkeypatch.setitem(sys.modules, "gym_aloha.env", module)
    monkeypatch.delitem(sys.modules, "nextmove.sim._gym_aloha", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    yield
    sys.modules.pop("nextmove.sim._gym_aloha", None)


@pytest.mark.usefixtures("gym_aloha")
def test_an_episode_is_gym_alohas_with_the_cameras_asked_for():
    env = sim.make("aloha-insertion", ["left_wrist=48x64", "top"])
    assert env.simulator._env.name == "insertion"
    observation, _ = env.reset(seed=3)
    assert observation["task"] == "Insert the peg into the socket."
    assert {name: value.shape for name, value in observation.items() if name in env.cameras} == {
        TOP: (480, 640, 3),
        WRIST: (48, 64, 3),
    }
    assert (observation[TOP][0, 0, 0], observation[WRIST][0, 0, 0]) == (len("top"), len("left_wrist"))
    assert observation["observation.state"] == pytest.approx(np.full(14, 0.3))
    action = np.linspace(-1.8, 1.8, 14, dtype=np.float32)  # targets beyond 1 are joints' angles, not to be cut off
    steps = [env.step(action) for _ in range(4)]
    assert steps[0][0]["observation.state"] == pytest.approx(action)
    assert [(reward, terminated, info["is_success"]) for _, reward, terminated, _, info in steps] == [
        *((float(stage), False, False) for stage in (1, 2, 3)),
        (4.0, True, True),
    ]
    inner = env.simulator._env._env
    env.close()
    assert inner.closed


@pytest.mark.usefixtures("gym_aloha")
def test_a_size_beyond_the_buffer_is_refused():
    with pytest.raises(sim.SimulatorError, match="top: expected at most 480 x 640, found 481 x 640"):
        sim.make("aloha-transfer-cube", {"top": (481, 640)})


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "nextmove.sim._gym_aloha", raising=False)
    monkeypatch.setitem(sys.modules, "gym_aloha", None)
    with pytest.raises(sim.SimulatorError, match=f"aloha-insertion: needs gym-aloha .*{HINT}$"):
        sim.make("aloha-insertion")

    monkeypatch.delitem(sys.modules, "gym_aloha")
    broken = "raise AttributeError(\"'NoneType' object has no attribute 'eglQueryString'\")"
    (tmp_path / "gym_aloha.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(sim.SimulatorError, match=r"no library to render with .*eglQueryString.*MUJOCO_GL"):
        sim.make("aloha-insertion")


def test_there_is_no_expert_yet():
    with pytest.raises(sim.SimulatorError, match="aloha-insertion: expected a task with a scripted expert"):
        sim.demonstrate("aloha-insertion", 0)
