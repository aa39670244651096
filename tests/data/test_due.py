"""Which episodes are played when several tasks share a data set: each has its successes, in turns."""

from __future__ import annotations

import pytest

from nextmove.data.due import RecordingError, Turns


def played(turns, solved):
    """Plays what is due, one after another; the numbers in that order."""
    order = []
    while (number := turns.next_task()) is not None:
        order.append(number)
        turns.finish(number, solved(number))
    return order


def test_tasks_take_turns_in_the_set_but_are_played_one_after_another():
    turns = Turns({}, 3, ["a", "b"])
    assert played(turns, lambda number: True) == [0, 2, 4, 1, 3, 5]
    assert turns.succeeded() == [0, 1, 2, 3, 4, 5]


def test_a_failure_is_made_up_for_by_another_episode_of_the_same_task():
    turns = Turns({}, 2, ["a", "b", "c"])
    order = played(turns, lambda number: number not in (1, 4))
    assert sorted(order) == [0, 1, 2, 3, 4, 5, 7, 10]
    assert turns.succeeded() == [0, 2, 3, 5, 7, 10]
    assert turns.failed() == [1, 4]
    assert [number % 3 for number in turns.succeeded()].count(1) == 2


def test_what_is_done_is_not_played_again():
    done = {0: True, 1: False, 3: True}
    turns = Turns(done, 2, ["a", "b"])
    assert turns.wanted == 4
    assert sorted(played(turns, lambda number: True)) == [2, 5]
    assert turns.succeeded() == [0, 2, 3, 5]


def test_the_task_whose_expert_fails_is_named():
    turns = Turns({}, 2, ["open", "close"])
    with pytest.raises(RecordingError, match=r"'close': 11 of 1[23] episodes failed"):
        played(turns, lambda number: number % 2 == 0)
