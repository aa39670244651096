"""Errors beside those of doing nothing, by hand."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from tests.evaluation.toys import FPS

from nextmove.contracts import Chunk
from nextmove.evaluation import Entry, entry_json, offline, read_entry
from nextmove.evaluation.baselines import EXTRAPOLATE, HOLD, REPEAT, ZERO, baselines
from nextmove.evaluation.beside import verdict
from nextmove.evaluation.terminal import show_beside
from nextmove.evaluation.trajectory import Trajectory

PAST = [[[1.0, 0], [3, 0]], [[9, 9], [5, 1]], [[9, 9], [9, 9]]]
"""Two actions before the plan; the second window's episode had one, the third's none."""
DONE = [[[4.0, 0], [5, 0]], [[5, 1], [6, 2]], [[7, 0], [8, 0]]]
STATE = [[2.0, 0], [4, 4], [6, 0]]
EARLY = [[False, False], [True, False], [True, True]]
LATE = [[False, False], [False, True], [False, False]]


def windows():
    return {
        "observation.state": torch.tensor(STATE)[:, None],
        "action": torch.cat([torch.tensor(PAST), torch.tensor(DONE)], 1),
        "action_is_pad": torch.cat([torch.tensor(EARLY), torch.tensor(LATE)], 1),
        "episode_index": torch.tensor([4, 7, 7]),
    }


class Still:
    """Always plans the same."""

    n_obs_steps, n_action_steps, horizon = 1, 2, 2

    def __init__(self, value=5.0):
        self.value = value

    def act(self, obs, *, rng, known=None):
        return Chunk(torch.full((len(obs["observation.state"]), 2, 2), self.value), 1 / FPS)


def test_baselines_know_the_past_only():
    found = baselines(windows(), now=2, steps=2, state="observation.state")
    assert found[HOLD].tolist() == [[s, s] for s in STATE]
    assert found[REPEAT].tolist() == [[[3, 0]] * 2, [[5, 1]] * 2, [[6, 0]] * 2]
    assert found[EXTRAPOLATE].tolist() == [[[5, 0], [7, 0]], [[5, 1]] * 2, [[6, 0]] * 2]
    blind = baselines(windows(), now=2, steps=2)
    assert set(blind) == {REPEAT, EXTRAPOLATE, ZERO}
    assert blind[ZERO].tolist() == [[[0, 0]] * 2] * 3
    assert blind[REPEAT][2].isnan().all()
    assert set(baselines(windows(), now=0, steps=2, state="observation.state")) == {HOLD}
    assert set(baselines(windows(), now=1, steps=2)) == {REPEAT, ZERO}


def test_errors_by_episode_step_and_dimension():
    found = offline(Still(), [windows()], now=2, state="observation.state", spread=np.array([2.0, 0.0])).beside
    assert found.episodes.tolist() == [4, 7]
    # The step after episode 7 ended counts for nobody.
    assert found.count.tolist() == [[1, 1], [2, 1]]
    np.testing.assert_allclose(found.errors[HOLD].by_step, [[(2 + 1 + 1) / 3, 3 / 3], [(3 + 2) / 2, 0]])
    # The second dimension never moves: unit-free errors are of the first, halved.
    np.testing.assert_allclose(found.errors[REPEAT].by_episode, [[0.5, 1.0], [0.25, 1.0]])
    np.testing.assert_allclose(found.episode_errors(REPEAT), [0.75, (0.25 * 2 + 1) / 3])
    np.testing.assert_allclose(found.episode_errors(REPEAT, steps=1), [0.5, 0.25])
    np.testing.assert_allclose(found.step_errors(), [(1 + 0 + 2) / 3 / 2, (0 + 3) / 2 / 2])
    np.testing.assert_allclose(found.dim_errors(), [(1 + 2 + 0 + 3) / 5, (5 + 5 + 4 + 5 + 5) / 5])
    assert found.mean(EXTRAPOLATE) == pytest.approx((0.5 + 1 + 0 + 0.5 + 1) / 5)


def test_windows_of_whom_nothing_is_known_count_for_nobody():
    found = offline(Still(), [windows()], now=2).beside
    assert found.count.tolist() == [[1, 1], [1, 0]]
    assert set(found.errors) == {"policy", ZERO, REPEAT, EXTRAPOLATE}


@pytest.mark.parametrize(
    ("plan", "head", "said", "unsaid"),
    [
        (
            DONE,
            "Better than doing nothing at every step of the horizon: error 0 of the",
            "(holding the state",
            "is better",
        ),
        (
            [[[99.0, 9]] * 2] * 3,
            "Worse than doing nothing: error",
            "Holding the state, repeating the last action and extrapolating the last two are better at all 2 steps",
            "step 2",
        ),
        (
            [[rows[0], [rows[1][0] + 2.1, 0]] for rows in DONE],
            "Better than doing nothing: error",
            "Repeating the last action and extrapolating the last two are better at step 2 of 2.",
            "Holding the state",
        ),
    ],
)
def test_verdicts_name_the_baseline_and_the_steps(plan, head, said, unsaid):
    class Planned(Still):
        def act(self, obs, *, rng, known=None):
            return Chunk(torch.tensor(plan), 1 / FPS)

    found = verdict(offline(Planned(), [windows()], now=2, state="observation.state").beside)
    assert found.startswith(head)
    assert said in found
    assert unsaid not in found


def test_a_terminal_shows_steps_baselines_and_a_bar_a_joint(capsys):
    spread = np.array([2.0, 0.0])
    found = offline(Still(), [windows()], now=2, state="observation.state", spread=spread, names=("pan", "lift")).beside
    show_beside(found, "still")
    said = capsys.readouterr().out
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    assert lines["still"].split() == ["still", "0.600", "0.500", "0.750"]
    assert lines[REPEAT].split()[-3:] == ["0.600", "0.333", "1.000"]
    assert re.fullmatch(r"pan +[█#]+\|? *0.600", lines["pan"])
    assert lines["lift"].split() == ["lift", "never", "moves"]


def test_what_is_beside_survives_its_file(tmp_path):
    drawn = Trajectory(4, np.ones((3, 2)), np.array([0, 2]), np.full((2, 2, 2), 1 / 3), 10.0)
    judged = offline(Still(), [windows()], now=2, state="observation.state", names=("x", "y"))
    entry = Entry("still", offline=dataclasses.replace(judged, trajectories=(drawn,)))
    path = tmp_path / "still.json"
    path.write_text(json.dumps(entry_json(entry), allow_nan=False))
    again = read_entry(path)
    assert entry_json(again) == entry_json(entry)
    np.testing.assert_array_equal(again.offline.beside.episode_errors(), entry.offline.beside.episode_errors())
    assert again.offline.beside.names == ("x", "y")
    assert again.offline.trajectories[0].plans.tolist() == np.full((2, 2, 2), 0.33333).tolist()
    old = json.loads(path.read_text())
    del old["offline"]["beside"], old["offline"]["trajectories"]
    path.write_text(json.dumps(old))
    assert read_entry(path).offline.beside is None
