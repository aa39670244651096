"""A point cloud from recording to evaluation: the simulator shows as many points as the policy reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sim import lamps
from tests.sim.lamps import LAMPS, Lamps

from nextmove import data, jobs, sim, store
from nextmove.config import ConfigError
from nextmove.encoders import Cloud, Observation, State
from nextmove.jobs.robot import fits_task, sensors
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.sim.base import Cloud as SimCloud

SPACE = SimCloud("front", (8, 8), (-1, -1, 0), (1, 1, 1))


class Dots(Lamps):
    """Lamps that are seen as points: all of them where the lamp is."""

    def __init__(self, task: sim.Task, cameras: Mapping[str, Any], points: int = 0) -> None:
        super().__init__(task, cameras)
        self.points = points

    def observe(self) -> dict[str, Any]:
        found: dict[str, Any] = super().observe()
        return found | ({sim.POINTS: np.full((self.points, 3), self.lamp, np.float32)} if self.points else {})


def demonstrate(
    task: sim.Task, number: int, *, seed: int, noise: float, noisy_share: float, cameras: Any, points: int = 0
) -> sim.Episode:
    """As the lamps' own expert."""
    episode = lamps.demonstrate(task, number, seed=seed, noise=noise, noisy_share=noisy_share, cameras=cameras)
    rows = len(episode.columns["action"])
    cloud = {sim.POINTS: np.full((rows, points, 3), number + 1, np.float32)} if points else {}
    return sim.Episode({**episode.columns, **cloud}, episode.success)


DOTS = replace(LAMPS[0], name="dots/touch", cloud=SPACE, make=f"{__name__}:Dots", expert=f"{__name__}:demonstrate")
READING = BC(encoder=Observation((State(), Cloud())), timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2))


@pytest.fixture(autouse=True)
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sim.SUITES, "dots", (DOTS,))


def test_points_are_recorded_trained_on_and_shown(tmp_path: Path) -> None:
    made = jobs.record("dots/touch", out=tmp_path / "set", episodes=4, points=7, workers=0)
    dataset = data.open_dataset(made)
    assert dataset.layout.features[sim.POINTS].shape == (7, 3)
    jobs.train("bc", made, out=tmp_path / "run", steps=2, threads=1, recipe=READING, bf16="off")
    policy = store.load(tmp_path / "run" / "model")
    assert sensors(policy, DOTS) == {"cameras": {}, "points": 7}
    written = jobs.evaluate(tmp_path / "run", task="dots/touch", episodes=2, workers=0, video=0)
    assert written["policies"]["run"]["success"]["episodes"] == 2
    with pytest.raises(ConfigError, match=rf"mirror: {sim.POINTS}: expected points \[7, 3\], found only"):
        fits_task(policy, LAMPS[1])


def test_points_that_a_task_does_not_offer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(sim.SimulatorError, match="points: expected 0, since pusht offers no point cloud, found 512"):
        jobs.record("pusht", out=tmp_path / "set", episodes=1, points=512, workers=0)
    with pytest.raises(sim.SimulatorError, match="points: expected 0 or more, found -1"):
        sim.make(DOTS, points=-1)
    assert not (tmp_path / "set").exists()


def test_the_environment_checks_their_number() -> None:
    env = sim.make(DOTS, points=5)
    env.simulator.points = 4  # type: ignore[attr-defined]
    with pytest.raises(sim.SimulatorError, match=rf"{sim.POINTS}: expected float32 \(5, 3\), found float32 \(4, 3\)"):
        env.reset(seed=0)
    env.close()


def test_an_episode_that_begins_with_nothing_to_see_is_refused_and_one_that_comes_to_it_goes_on() -> None:
    env = sim.make(DOTS, points=5)
    env.reset(seed=0)
    env.simulator.observe = lambda: {**Dots.observe(env.simulator), sim.POINTS: np.zeros((5, 3), np.float32)}  # type: ignore
    observation, *_ = env.step(np.zeros(DOTS.action))
    assert not observation[sim.POINTS].any()
    with pytest.raises(sim.SimulatorError, match=rf"{sim.POINTS}: expected to see .* dots/touch.* episode 3, found"):
        env.reset(seed=3)
    env.close()
