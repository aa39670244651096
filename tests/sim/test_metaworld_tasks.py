"""The table of Meta-World's tasks, which needs nothing installed."""

from __future__ import annotations

from nextmove import sim

LEVELS = {"easy": 28, "medium": 11, "hard": 6, "very-hard": 5}
EVERY = sim.find("metaworld/mt50")


def test_every_task_has_one_difficulty():
    suites = {level: sim.find(f"metaworld/{level}") for level in LEVELS}
    assert {level: len(tasks) for level, tasks in suites.items()} == LEVELS
    names = [task.name for tasks in suites.values() for task in tasks]
    assert len(set(names)) == 50
    assert {task.name for task in EVERY} == set(names)
    assert {task.name for task in sim.find("metaworld/mt10")} < set(names)


def test_instructions_are_single_distinct_sentences_that_say_what_to_do():
    said = [task.instruction for task in EVERY]
    assert len({text.lower() for text in said}) == 50
    for text in said:
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.count(".") == 1
        assert not text.startswith(("The ", "A ", "An "))


def test_what_the_robot_knows_of_itself_is_apart_from_what_it_has_to_see():
    features = EVERY[0].features
    own, scene = (features[f"observation.{name}"]["names"] for name in ("state", "environment_state"))
    assert (len(own), len(scene)) == (4, 35)
    assert not set(own) & set(features["action"]["names"]), (
        "motions are no places: relative to places they mean nothing"
    )
    assert all(not task.holds for task in EVERY)
