"""Histories, queues and generators of receding horizon control."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextmove.contracts import Chunk, Feature, ObservationError, normal, seeded
from nextmove.control import BatchedReceding, Receding, history, stack_observations


class Counting:
    """Plans 100 k, 100 k + 1, ... in its kth call and keeps what it was shown."""

    n_obs_steps = 3
    n_action_steps = 4
    horizon = 6

    def __init__(self) -> None:
        self.shown = []

    def act(self, obs, *, rng, known=None):
        batch = len(obs["observation.state"])
        plan = 100.0 * len(self.shown) + torch.arange(6.0)
        self.shown.append(obs)
        return Chunk(plan.view(1, 6, 1).repeat(batch, 1, 1), 0.1)


class Noise(Counting):
    def act(self, obs, *, rng, known=None):
        super().act(obs, rng=rng)
        return Chunk(normal((len(obs["observation.state"]), 6, 1), rng), 0.1)


class Saying(Counting):
    """Says a word of its own in each call, for the rows that are given none, and keeps it for three plans."""

    plans_a_subtask = 3

    def act(self, obs, *, rng, known=None):
        chunk = super().act(obs, rng=rng)
        batch = len(chunk.actions)
        words = [given or f"word {len(self.shown)}" for given in obs.get("plan", [""] * batch)]
        return Chunk(chunk.actions, 0.1, tuple(words))


def see(value):
    return {"observation.state": np.array([value], np.float32)}


def test_the_first_observation_stands_in_for_those_before_it():
    actor = Counting()
    control = Receding(actor, seeded(0))
    for value in range(9):
        control.step(see(value))
    states = [shown["observation.state"][0, :, 0].tolist() for shown in actor.shown]
    assert states == [[0, 0, 0], [2, 3, 4], [6, 7, 8]]


def test_the_first_actions_of_each_chunk_are_executed():
    control = Receding(Counting(), seeded(0))
    assert [float(control.step(see(0))[0]) for _ in range(9)] == [0, 1, 2, 3, 100, 101, 102, 103, 200]


def test_number_of_executed_actions_can_be_chosen():
    control = Receding(Counting(), seeded(0), n_action_steps=2)
    assert control.n_action_steps == 2
    assert [float(control.step(see(0))[0]) for _ in range(5)] == [0, 1, 100, 101, 200]


def test_a_sub_task_is_kept_for_as_many_plans_as_the_actor_says():
    actor = Saying()
    control = BatchedReceding(actor, 2, n_action_steps=1)
    for row in range(2):
        control.reset(row, seeded(row))
    control.step([see(0), None])
    for _ in range(3):
        control.step([see(0), see(0)])
    assert [shown.get("plan") for shown in actor.shown] == [
        None,
        ["word 1", ""],
        ["word 1", "word 2"],
        ["", "word 2"],
    ]
    control.reset(0, seeded(0))
    control.step([see(0), None])
    assert "plan" not in actor.shown[-1]


def test_reset_forgets_observations_and_actions():
    actor = Counting()
    control = Receding(actor, seeded(0))
    control.step(see(5))
    assert control.plan is not None
    control.reset()
    assert control.plan is None
    assert float(control.step(see(7))[0]) == 100
    assert actor.shown[-1]["observation.state"][0, :, 0].tolist() == [7, 7, 7]


def test_observations_are_copied():
    actor, buffer = Counting(), np.zeros(1, np.float32)
    control = Receding(actor, seeded(0))
    for value in range(5):
        buffer[0] = value
        control.step({"observation.state": buffer})
    assert actor.shown[-1]["observation.state"][0, :, 0].tolist() == [2, 3, 4]


class Camera:
    """An image that counts how often it is read, as a copy or into a batch."""

    def __init__(self):
        self.frame, self.read = np.zeros((4, 5, 3), np.uint8), 0

    def __array__(self, dtype=None, copy=None):
        self.read += 1
        return self.frame


class Watching(Counting):
    """Reads the image, not the other."""

    inputs = {  # noqa: RUF012
        "observation.state": Feature("state", (1,)),
        "observation.image": Feature("image", (4, 5, 3)),
        "observation.depth": Feature("image", (4, 5, 3), optional=True),
    }


@pytest.mark.parametrize(
    ("steps", "executed", "reads", "shown"),
    [
        # A plan of the last 3 ticks copies two images and reads the present one; at other ticks none is read.
        (3, 8, 3, [[0, 0, 0], [6, 7, 8], [14, 15, 16]]),
        (1, 8, 1, [[0], [8], [16]]),
        # What the next plan looks at again is copied, once.
        (3, 2, 2, [[0, 0, 0], *([t - 2, t - 1, t] for t in range(2, 17, 2))]),
    ],
)
def test_pictures_are_read_only_for_the_plans_that_look_at_them(steps, executed, reads, shown):
    actor = Watching()
    actor.n_obs_steps = steps
    actor.act = lambda obs, *, rng, known=None: actor.shown.append(obs) or Chunk(torch.zeros(1, 8, 1), 0.1)
    control = Receding(actor, seeded(0), n_action_steps=executed)
    buffer, unread, count = Camera(), Camera(), []
    for tick in range(17):
        buffer.frame[:] = tick  # the very buffer, as many simulators do
        control.step({"observation.state": np.array([tick]), "observation.image": buffer, "observation.wrist": unread})
        count.append(buffer.read)
    assert [plan["observation.image"][0, :, 0, 0, 0].tolist() for plan in actor.shown] == shown
    assert [plan["observation.state"][0, :, 0].tolist() for plan in actor.shown] == shown
    assert count[16] - count[16 - executed] == reads
    assert unread.read == 0


def test_an_input_that_is_absent_is_named_with_what_there_is():
    class Checking(Watching):
        def act(self, obs, *, rng, known=None):
            raise ObservationError(f"expected the image, found {sorted(obs)}")

    with pytest.raises(ObservationError, match=r"found \['observation.state', 'observation.wrist'\]"):
        Receding(Checking(), seeded(0)).step({**see(0), "observation.wrist": np.zeros((4, 5, 3), np.uint8)})


def test_a_row_draws_the_same_whoever_is_beside_it():
    alone = Receding(Noise(), seeded(1))
    expected = [float(alone.step(see(0))[0]) for _ in range(10)]
    control = BatchedReceding(Noise(), 3)
    control.reset(1, seeded(1))
    found = []
    for tick in range(10):
        for row in (0, 2):
            if tick % (row + 2) == 0:
                control.reset(row, seeded(99, tick))
        found.append(float(control.step([see(3), see(0), see(4)])[1][0]))
    assert found == expected


def test_only_rows_with_an_empty_queue_are_planned():
    actor = Counting()
    control = BatchedReceding(actor, 3)
    for row in range(3):
        control.reset(row, seeded(row))
    control.step([see(0), None, None])
    actions = control.step([see(1), see(2), None])
    assert [len(shown["observation.state"]) for shown in actor.shown] == [1, 1]
    assert [None if a is None else float(a[0]) for a in actions] == [1, 100, None]


def test_words_and_pictures_travel():
    seen = {"observation.image": np.zeros((4, 5, 3), np.uint8), "x": np.zeros(2), "task": "push"}
    batch = stack_observations([[seen, seen], [seen, {**seen, "task": "pull"}]])
    assert batch["observation.image"].shape == (2, 2, 4, 5, 3)
    assert batch["observation.image"].dtype == torch.uint8
    assert batch["x"].dtype == torch.float32
    assert batch["task"] == ["push", "pull"]


def test_history_is_one_row():
    batch = history([see(1), see(2)])
    assert batch["observation.state"].tolist() == [[[1], [2]]]


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="rng: expected a generator"):
        Receding(Counting()).step(see(0))
    with pytest.raises(ValueError, match=r"chunk.actions: expected \(1, at least 7, A\), found \(1, 6, 1\)"):
        Receding(Counting(), seeded(0), n_action_steps=7).step(see(0))
    with pytest.raises(ValueError, match="n_action_steps: expected at least 1"):
        Receding(Counting(), n_action_steps=0)
    with pytest.raises(ValueError, match="one for each of 2 rows, found 1"):
        BatchedReceding(Counting(), 2).step([see(0)])
    with pytest.raises(ValueError, match=r"expected \['observation.state'\], found \['x'\] \(row 1"):
        stack_observations([[see(0)], [{"x": np.zeros(1)}]])


def test_a_diverged_actor_is_stopped():
    class Nan(Counting):
        def act(self, obs, *, rng, known=None):
            chunk = super().act(obs, rng=rng)
            chunk.actions[0, 1] = float("nan")
            return chunk

    with pytest.raises(ValueError, match="finite"):
        Receding(Nan(), seeded(0)).step(see(0))


def test_it_says_beforehand_which_observations_it_reads():
    actor = Counting()
    control, said = Receding(actor, seeded(0)), []
    for value in range(12):
        looks = control.looks
        said.append(looks)
        control.step(see(value if looks else -1.0))
    assert said == [True, False, True, True, True, False, True, True, True, False, True, True]
    states = [shown["observation.state"][0, :, 0].tolist() for shown in actor.shown]
    assert states == [[0, 0, 0], [2, 3, 4], [6, 7, 8]]
