"""PushT: the numbers are gym-pusht's own, observations are LeRobot's, and the same seed is the same episode."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nextmove import sim

pytest.importorskip("gym_pusht")

RESETS = {  # agent x, y, block x, y, angle modulo 2 pi
    0: (390, 304, 241.5426, 268.5170, 3.39904),
    1: (239, 254, 290.5892, 457.7682, 4.04737),
    42: (85, 359, 330.9244, 304.3775, 2.25314),
}


@pytest.fixture(scope="module")
def env():
    return sim.make("pusht")


@pytest.mark.parametrize("seed", RESETS)
def test_known_starts(env, seed):
    _, info = env.reset(seed=seed)
    pose = info["block_pose"]
    assert (*info["agent"], *pose[:2], pose[2] % (2 * np.pi)) == pytest.approx(RESETS[seed], abs=1e-4)


def test_every_number_is_the_original_simulators(env):
    from gym_pusht.envs.pusht import PushTEnv

    original = PushTEnv(obs_type="environment_state_agent_pos")
    rng = np.random.default_rng(0)
    theirs, _ = original.reset(seed=7)
    mine, info = env.reset(seed=7)
    contacts = 0
    for _ in range(60):
        assert np.array_equal(mine["observation.state"], theirs["agent_pos"].astype(np.float32))
        assert np.allclose(mine["observation.environment_state"], theirs["environment_state"], rtol=0, atol=1e-4)
        towards = info["block_pose"][:2] + rng.normal(0, 40, 2)
        action = towards.astype(np.float32)
        theirs, their_reward, their_end, _, their_info = original.step(action)
        mine, reward, terminated, _, info = env.step(action)
        assert (reward, terminated, info["coverage"]) == (their_reward, their_end, their_info["coverage"])
        assert np.array_equal(info["block_pose"], their_info["block_pose"])
        contacts += their_info["n_contacts"]
    assert contacts > 0, "the episode should touch the T"


def test_the_goal_is_covered_at_the_goal(env):
    env.reset(seed=0)
    block = env.simulator._env.block
    block.angle = np.pi / 4  # turns about the centre of gravity, so the position comes second
    block.position = (256, 256)
    env.simulator._env.agent.position = (50, 50)
    observation = env.simulator._observe()
    assert np.allclose(observation["observation.environment_state"], observation["observation.goal"], atol=1e-4)
    _, reward, terminated, truncated, info = env.step(np.array([50, 50]))
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


def test_observations_are_as_the_features_say():
    env = sim.make("pusht", ["image"])
    observation, _ = env.reset(seed=3)
    features = env.task.entries(["image"])
    assert observation.pop("task") == env.task.instruction
    assert observation.keys() == {name for name in features if name.startswith("observation.")}
    for name, value in observation.items():
        entry = features[name]
        assert list(value.shape) == entry["shape"]
        assert value.dtype == ("uint8" if entry["dtype"] == "video" else entry["dtype"])
    following, *_ = env.step(np.array([400, 100]))
    assert np.array_equal(following["observation.goal"], observation["observation.goal"])
    assert not np.array_equal(following["observation.image"], observation["observation.image"])
    assert env.render().shape == (680, 680, 3)
    assert "observation.image" not in env.task.entries()
    env.seeing = False
    assert not env.step([100, 100])[0]["observation.image"].any()
    assert env.reset(seed=3)[0]["observation.image"].any(), "a reset looks again"


def test_an_episode_ends_after_300_steps(env):
    env.reset(seed=0)
    corner = np.array([20, 20])
    ends = [env.step(corner)[3] for _ in range(300)]
    assert ends == [False] * 299 + [True]
    with pytest.raises(sim.SimulatorError, match="reset"):
        env.step(corner)


@pytest.mark.parametrize("action", [[1.0], [1.0, np.nan], [[1.0, 2.0]], [np.inf, 0.0]])
def test_actions_are_two_finite_numbers(env, action):
    env.reset(seed=0)
    with pytest.raises(sim.SimulatorError, match="expected 2 finite numbers"):
        env.step(np.array(action))


def digest() -> str:
    env = sim.make("pusht", ["image"])
    env.reset(seed=5)
    found = hashlib.sha256()
    for i in range(25):
        observation, reward, *_ = env.step(np.array([256 + 120 * np.cos(i), 256 + 120 * np.sin(i)]))
        del observation["task"]
        found.update(b"".join(observation[name].tobytes() for name in sorted(observation)) + str(reward).encode())
    return found.hexdigest()


def test_the_same_in_another_process(env):
    env.reset(seed=11)  # an episode before must not matter
    env.step(np.array([0, 0]))
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]}; import test_pusht; print(test_pusht.digest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_unknown_simulators_get_a_hint():
    with pytest.raises(sim.SimulatorError, match="did you mean 'pusht'"):
        sim.make("pusth")
    for ask in (sim.find, sim.task, lambda name: sim.demonstrate(name, 0)):
        with pytest.raises(sim.SimulatorError, match="expected a task or suite"):
            ask("nothing like it")


def test_a_missing_package_names_what_installs_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "nextmove.sim._gym_pusht", raising=False)
    monkeypatch.setitem(sys.modules, "gym_pusht.envs.pusht", None)
    with pytest.raises(sim.SimulatorError, match=r"pip install --no-deps gym-pusht==0.1.8$"):
        sim.make("pusht")


def test_importing_the_room_is_cheap():
    heavy = "torch", "gymnasium", "gym_pusht", "pymunk", "pygame", "shapely", "cv2"
    code = f"import sys, nextmove.sim, nextmove.sim.pusht_expert; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
