"""Sub-tasks written into a recorded data set, and a policy trained to write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.sim.lamps import LAMPS

from nextmove import data, jobs, sim
from nextmove.data.errors import DataError
from nextmove.data.labelled import add_texts
from nextmove.encoders import Instruction, Observation, State
from nextmove.encoders.planner import Planner
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.nn.gpt import Gpt
from nextmove.nn.text_encoder import TextEncoder
from nextmove.sim.metaworld_plans import subtasks
from nextmove.sim.metaworld_tasks import SUITES


def named(task, columns):
    """The words of the lamps' demonstrations: half of the way, then all of it."""
    return [f"{task.name}: {'first' if row == 0 else 'then'}." for row in range(len(columns["observation.state"]))]


TOLD = tuple(replace(task, subtasks="tests.jobs.test_label:named") for task in LAMPS)


@pytest.fixture
def demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sim.SUITES, "lamps", TOLD)
    return jobs.record("lamps", out=tmp_path / "set", episodes=3, workers=0)


def test_every_step_gets_the_sub_task_of_its_own_task(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = data.open_dataset(demos)
    columns = {name: before.column(name) for name in ("action", "task_index", "index")}
    for _ in range(2):  # the second time replaces it
        assert jobs.label(demos) == demos
    assert "12 steps, 4 sub-tasks\n         3 touch: first." in capsys.readouterr().out
    after = data.open_dataset(demos)
    assert list(after.column("plan")) == [
        f"{t}: {s}." for _ in range(3) for t in ("touch", "mirror") for s in ("first", "then")
    ]
    for name, column in columns.items():
        assert (column == after.column(name)).all()
    info = json.loads((demos / "meta" / "info.json").read_text())
    assert info["features"]["plan"] == {"dtype": "string", "shape": [1], "names": None}
    (file,) = (demos / "data").glob("*/*.parquet")
    stored = json.loads(pq.read_schema(file).metadata[b"huggingface"])["info"]["features"]
    assert list(stored)[-1] == "plan"
    assert data.Windows(after, ["observation.state", "plan"]).batch([1, 2])["plan"] == [
        "touch: then.",
        "mirror: first.",
    ]
    assert jobs.record("lamps", out=demos, episodes=3, workers=0) == demos, "still what was recorded"


def test_a_policy_learns_to_write_them(demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = Instruction(TextEncoder(width=8, layers=1, heads=1), length=64)
    planner = Planner(Gpt(width=8, layers=1, heads=1), length=24)
    encoder = Observation((State(), words), planner=planner)
    recipe = BC(encoder=encoder, timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2))
    with pytest.raises(DataError, match=r"plan: expected a column of strings .*; `nextmove label .*set`"):
        jobs.train("bc", demos, out=tmp_path / "early", steps=1, threads=1, recipe=recipe)
    jobs.label(demos)
    jobs.train("bc", demos, out=tmp_path / "run", steps=2, threads=1, recipe=recipe)
    untrained = "planner: no weight that writes sub-tasks is trained (optim.scales)"
    assert untrained not in capsys.readouterr().out
    frozen = replace(recipe, optim=replace(recipe.optim, scales=(("planner", 0.0),)))
    jobs.train("bc", demos, out=tmp_path / "frozen", steps=1, threads=1, recipe=frozen)
    assert untrained in capsys.readouterr().out
    report = jobs.evaluate(tmp_path / "run", task="lamps", episodes=1, video=1, workers=0)
    assert report["policies"]["run"]["success"]["episodes"] == 2


def test_phases_of_meta_world_in_words() -> None:
    def said(task, hand, gripper, thing, goal):
        scene = np.zeros((1, 35))
        scene[0, :3], scene[0, -3:] = thing, goal
        columns = {"observation.state": np.array([[*hand, gripper]]), "observation.environment_state": scene}
        (words,) = subtasks(next(t for t in SUITES["metaworld/mt10"] if t.name.endswith(task)), columns)
        return words

    puck, goal = (0.0, 0.6, 0.02), (0.1, 0.8, 0.2)
    assert said("/reach", puck, 1.0, puck, goal) == "Move to the marked point."
    assert said("/pick-place", (0.1, 0.6, 0.2), 1.0, puck, goal) == "Move above the puck."
    assert said("/pick-place", (0.0, 0.6, 0.2), 1.0, puck, goal) == "Go down to the puck."
    assert said("/pick-place", (0.0, 0.6, 0.05), 1.0, puck, goal) == "Grasp the puck."
    assert said("/pick-place", (0.0, 0.6, 0.15), 0.5, (0.0, 0.6, 0.12), goal) == "Carry the puck to the marked point."
    assert said("/drawer-close", (0.0, 0.8, 0.2), 1.0, (0.0, 0.6, 0.1), goal) == "Move in front of the drawer."
    assert said("/drawer-close", (0.0, 0.5, 0.08), 1.0, (0.0, 0.6, 0.1), goal) == "Push the drawer shut."
    assert (
        said("peg-insert-side", (0.1, 0.6, 0.16), 0.5, (0.1, 0.6, 0.16), (-0.3, 0.6, 0.13))
        == "Push the peg into the hole."
    )
    assert (
        said("peg-insert-side", (0.1, 0.6, 0.1), 0.5, (0.1, 0.6, 0.1), (-0.3, 0.6, 0.13))
        == "Carry the peg to the hole."
    )
    for task in SUITES["metaworld/mt10"]:
        assert said(task.name, (0.0, 0.6, 0.2), 1.0, puck, goal)
    other = next(task for task in SUITES["metaworld/mt50"] if task.name.endswith("/sweep"))
    with pytest.raises(sim.SimulatorError, match="metaworld/sweep: expected a task whose sub-tasks have words"):
        subtasks(other, {"observation.state": np.zeros((1, 4)), "observation.environment_state": np.zeros((1, 35))})


def test_what_cannot_be_labelled_is_refused(demos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)
    with pytest.raises(sim.SimulatorError, match="touch: expected a task whose sub-tasks have words"):
        jobs.label(demos)
    (demos / "meta" / "recording.json").unlink()
    with pytest.raises(DataError, match="expected a data set recorded from a simulator"):
        jobs.label(demos)
    with pytest.raises(DataError, match="'action': expected no such feature or one of strings, found float32"):
        add_texts(demos, "action", ["a"] * 12)
    with pytest.raises(DataError, match="'plan': expected one text for each of 12 rows, found 3"):
        add_texts(demos, "plan", ["a"] * 3)
