"""The same policy with another task's instruction in every episode, judged beside itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.lamps import LAMPS

from nextmove import data, jobs, sim
from nextmove.config import ConfigError
from nextmove.encoders import Instruction, Observation, State
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.nn.text_encoder import TextEncoder
from nextmove.sim.metaworld_tasks import SUITES
from nextmove.sim.shuffled import Shuffled

TOLD = Observation((State(), Instruction(TextEncoder(width=8, layers=1, heads=1), length=32)))
TIMING = Timing(n_obs_steps=1, horizon=2, n_action_steps=2)


def test_every_seed_gives_every_task_anothers_instruction() -> None:
    tasks = SUITES["metaworld/mt10"]
    told = [Shuffled.of(task, tasks) for task in tasks]
    orders = set()
    for seed in range(100_000, 100_040):
        said = [one(seed) for one in told]
        assert said == [one(seed) for one in told]
        assert sorted(said) == sorted(task.instruction for task in tasks)
        assert all(text != task.instruction for text, task in zip(said, tasks, strict=True))
        orders.add(tuple(said))
    assert len(orders) == 40
    heard = {told[0](seed) for seed in range(400)}
    assert heard == {task.instruction for task in tasks[1:]}


def test_the_environment_says_it_in_every_observation_of_the_episode() -> None:
    with pytest.raises(sim.SimulatorError, match=r"several tasks of different instructions, found 1 .*metaworld/mt10"):
        Shuffled.of(LAMPS[0], LAMPS[:1])
    env = sim.make(LAMPS[0], told=Shuffled.of(LAMPS[0], LAMPS))
    assert env.reset(seed=3)[0]["task"] == LAMPS[1].instruction
    assert env.step([0.0])[0]["task"] == LAMPS[1].instruction
    assert sim.make(LAMPS[0]).reset(seed=3)[0]["task"] == LAMPS[0].instruction


@pytest.fixture
def demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)
    writer = data.DatasetWriter(tmp_path / "set", LAMPS[0].entries(), LAMPS[0].fps)
    for number in range(4):
        for task in LAMPS:
            writer.add_episode(
                sim.demonstrate(task, number, seed=0, noise=0.1, noisy_share=1.0).columns, task.instruction
            )
    writer.finalize()
    return tmp_path / "set"


def test_both_are_judged_on_the_same_episodes(demos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    jobs.train("bc", demos, out=run, steps=2, threads=1, recipe=BC(encoder=TOLD, timing=TIMING))
    report = jobs.evaluate(run, task="lamps", shuffled=True, episodes=2, video=0, workers=0)
    assert list(report["policies"]) == ["run", "run-shuffled"]
    own, other = (report["policies"][name] for name in ("run", "run-shuffled"))
    assert "instruction" not in own["facts"]
    assert other["facts"]["instruction"] == "that of another task of the suite"
    assert [(e["task"], e["seed"]) for e in own["episodes"]] == [(e["task"], e["seed"]) for e in other["episodes"]]
    # Of two tasks, each is told the other's instruction.
    assert [e["max_reward"] for e in own["episodes"]] != [e["max_reward"] for e in other["episodes"]]
    assert len(report["comparisons"]) == 1
    assert not list((run / "evaluation").glob("rollouts*"))


def test_a_policy_that_reads_no_instruction_is_refused(demos: Path, tmp_path: Path) -> None:
    run = tmp_path / "deaf"
    jobs.train("bc", demos, out=run, steps=1, threads=1, recipe=BC(encoder=Observation((State(),)), timing=TIMING))
    with pytest.raises(ConfigError, match=r"shuffled: deaf reads no instruction, only observation.state; leave it out"):
        jobs.evaluate(run, task="lamps", shuffled=True, episodes=1, video=0, workers=0)
    with pytest.raises(ConfigError, match="shuffled: for a simulator, found --data; leave out --shuffled"):
        jobs.evaluate(run, data=demos, shuffled=True)
