"""What `nextmove train` decides about actions, with the data at hand, and says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextmove import data, jobs, store
from nextmove.jobs import scales
from nextmove.jobs.spaces import settle
from nextmove.jobs.tasks.policy import spec_of, windows
from nextmove.models.policy import ActionSpace
from nextmove.models.policy.bc import BC

NAMES = ["shoulder", "elbow", "gripper"]


def demonstrations(root: Path, *, velocities: bool = False, names: Any = NAMES) -> data.Dataset:
    """Three joints that are sent a little ahead of where they are, or whose speeds are commanded."""
    vector = {"dtype": "float32", "shape": [3], "names": names}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    rng = np.random.default_rng(0)
    for _ in range(3):
        path = 1 + np.cumsum(0.1 * rng.normal(size=(40, 3)), 0)
        state, ahead = path[:-1].astype(np.float32), path[1:].astype(np.float32)
        writer.add_episode({"observation.state": state, "action": ahead - state if velocities else ahead}, "x")
    return data.open_dataset(writer.finalize())


@pytest.mark.parametrize(
    ("made", "asked", "said"),
    [
        ({}, {}, "actions: relative to observation.state at the start of each plan, gripper absolute (action and "
         "observation.state share the names of joints); --recipe.actions.space absolute"),
        ({}, {"space": "absolute"}, "actions: absolute (as asked for)"),
        ({}, {"space": "deltas", "keep": ()}, "actions: step to step from observation.state at the start of each plan "
         "(as asked for)"),
        ({"velocities": True}, {}, "actions: absolute (action and observation.state share names, but the actions lie "
         "nowhere near it"),
        ({"names": None}, {}, "actions: absolute (action and observation.state share no names of joints)"),
        ({"names": None}, {"space": "relative", "keep": ("2",)}, "at the start of each plan, 2 absolute (as asked"),
    ],
)  # fmt: skip
def test_training_says_what_actions_are_relative_to(
    tmp_path: Path, made: dict[str, Any], asked: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = demonstrations(tmp_path / "set", **made)
    recipe = replace(BC(), actions=ActionSpace(**asked))
    policy = jobs.train("bc", dataset.root, out=tmp_path / "run", steps=1, threads=1, recipe=recipe)
    assert said in capsys.readouterr().out
    kept = store.load(tmp_path / "run").card.recipe.actions
    assert kept == policy.card.recipe.actions == settle(recipe, spec_of(dataset), dataset)[0].actions


def test_of_many_windows_some_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = demonstrations(tmp_path / "set")
    policy = store.create("bc", spec_of(dataset))
    numbers = scales.Columns(windows(dataset, policy, None))
    assert sum(len(part["action"]) for part in numbers.parts()) == len(dataset) == 117
    monkeypatch.setattr(scales, "LOOKED_AT", 30)
    monkeypatch.setattr(scales, "VALUES", 100)
    parts = list(numbers.parts())
    rows = np.concatenate([part["index"].numpy() for part in parts])
    assert len(parts) > 2
    assert (rows[0], rows[-1], len(rows)) == (0, 116, 30)
    assert set(np.diff(rows)) == {4}
