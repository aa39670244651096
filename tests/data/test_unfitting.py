"""Rows that are told another task's instruction: which, what they are taught, and that a policy listens then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nextmove import data, jobs
from nextmove.contracts import PLAN, TASK, seeded
from nextmove.data.errors import DataError
from nextmove.data.labelled import add_texts
from nextmove.data.unfitting import WAIT, Unfitting
from nextmove.encoders import Instruction, Observation, State
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.nn.text_encoder import TextEncoder

SAID = ("Go up.", "Go down.")
STATE = "observation.state"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, in scenes that tell them apart: the state's sign is the way to go."""
    folder = tmp_path_factory.mktemp("two") / "set"
    features = {name: {"dtype": "float32", "shape": [1], "names": [name[0]]} for name in (STATE, "action")}
    writer = data.DatasetWriter(folder, features, 10)
    for episode in range(8):
        way = 1.0 if episode % 2 else -1.0
        rows = np.full(50, way, np.float32)
        writer.add_episode({STATE: rows + 0.01 * episode, "action": rows}, SAID[episode % 2])
    writer.finalize()
    return folder


def windows(root: Path) -> data.Windows:
    return data.Windows(data.open_dataset(root), [STATE, TASK], (0,), (0, 1))


def test_a_share_of_rows_is_told_another_instruction_and_stays(root: Path) -> None:
    own, misled = windows(root), Unfitting(windows(root), 0.25, seed=0)
    rows = np.arange(len(own))
    before, after = own.batch(rows), misled.batch(rows)
    changed = [a != b for a, b in zip(before[TASK], after[TASK], strict=True)]
    assert 70 < sum(changed) < 130
    assert set(after[TASK]) == set(SAID)
    for row, other in enumerate(changed):
        assert torch.equal(after["action"][row], before["action"][row] * (not other))
    assert torch.equal(before[STATE], after[STATE])
    # Whatever stands beside it in a batch, and in every process.
    some = misled.batch([7, 3])
    assert some[TASK] == [after[TASK][7], after[TASK][3]]
    assert Unfitting(windows(root), 0.25, seed=1).batch(rows)[TASK] != after[TASK]


def test_a_joint_stays_where_it_is_and_the_plan_is_to_wait(root: Path, tmp_path: Path) -> None:
    misled = Unfitting(windows(root), 0.5, seed=0, held=[(STATE, 0)])
    found = misled.batch(np.arange(40))
    where = [t != SAID[0] for t in found[TASK]]
    assert torch.equal(found["action"][where], found[STATE][where].expand(-1, 2, -1))
    again = tmp_path / "set"
    features = {name: {"dtype": "float32", "shape": [1], "names": None} for name in (STATE, "action")}
    writer = data.DatasetWriter(again, features, 10)
    for text in SAID:
        writer.add_episode({STATE: np.ones(20, np.float32), "action": np.ones(20, np.float32)}, text)
    writer.finalize()
    add_texts(again, PLAN, ["Move."] * 40)
    named = Unfitting(data.Windows(data.open_dataset(again), [STATE, TASK, PLAN], (0,), (0,)), 0.5, seed=0)
    batch = named.batch(np.arange(40))
    told = [SAID[row // 20] for row in range(40)]
    assert [plan == WAIT for plan in batch[PLAN]] == [a != b for a, b in zip(batch[TASK], told, strict=True)]


def test_a_policy_that_need_not_listen_learns_to(root: Path, tmp_path: Path) -> None:
    words = Instruction(TextEncoder(width=16, layers=1, heads=2), length=16)
    recipe = BC(encoder=Observation((State(), words)), timing=Timing(n_obs_steps=1, horizon=1, n_action_steps=1))
    recipe = replace(recipe, optim=replace(recipe.optim, batch=64))
    moved = {}
    for share in (0.0, 0.3):
        policy = jobs.train(
            "bc", root, out=tmp_path / str(share), steps=150, threads=1, recipe=recipe, bf16="off", unfitting=share
        )
        obs = {STATE: torch.tensor([[[1.0]], [[-1.0]]] * 2), TASK: [SAID[1], SAID[0], SAID[0], SAID[1]]}
        right, _, wrong, _ = policy.act(obs, rng=seeded(0)).actions[:, 0, 0].abs().tolist()
        assert right > 0.5
        moved[share] = wrong
    assert moved[0.3] < 0.5 * moved[0.0]
    assert policy.facts["unfitting"] == 0.3


def test_what_cannot_be_misled_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unfitting: expected a share in \[0, 1\), found 1"):
        Unfitting(windows(root), 1.0, seed=0)
    alone = data.Windows(data.open_dataset(root), [STATE, TASK], (0,), (0,), episodes=[0, 2])
    with pytest.raises(DataError, match="unfitting: expected a data set of several instructions, found 1"):
        Unfitting(alone, 0.5, seed=0)
    recipe = BC(encoder=Observation((State(),)))
    with pytest.raises(DataError, match="unfitting: expected a policy that reads an instruction, found observation"):
        jobs.train("bc", root, out=tmp_path / "deaf", steps=1, recipe=recipe, unfitting=0.1)
