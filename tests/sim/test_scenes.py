"""Scenes: what is said of them is what is to be seen, and held-out compositions are never trained on."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from nextmove.sim.base import SimulatorError
from nextmove.sim.scene import (
    COLOURS,
    PLACES,
    SHAPES,
    TEE,
    Scene,
    Thing,
    Wish,
    drawn_kind,
    drawn_things,
    row_and_column,
)
from nextmove.sim.scene_frames import open_grippers, squared
from nextmove.sim.scene_words import caption, listed, written
from nextmove.sim.scenes import TABLES, sources
from nextmove.sim.tasks import task

THINGS = [Thing(*one) for one in product(COLOURS, (*SHAPES, TEE), PLACES)]
BLANK = np.zeros((4, 4, 3), np.uint8)


def test_each_two_of_a_composition_are_trained_on_together() -> None:
    held = [thing for thing in THINGS if thing.held_out]
    assert len(held) * 7 == len(THINGS)
    kept = [thing for thing in THINGS if not thing.held_out]
    for one, other in (("colour", "shape"), ("colour", "place"), ("shape", "place")):
        pairs = {(getattr(thing, one), getattr(thing, other)) for thing in THINGS}
        assert {(getattr(thing, one), getattr(thing, other)) for thing in kept} == pairs


@pytest.mark.parametrize("held", [True, False])
def test_things_of_a_scene_differ_in_everything(held: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        things = drawn_things(rng, 4, held=held)
        assert all(thing.held_out == held for thing in things)
        for name in ("colour", "shape", "place"):
            assert len({getattr(thing, name) for thing in things}) == 4
        assert things == sorted(things, key=lambda thing: PLACES.index(thing.place))


def test_a_fourth_of_the_kinds_is_held_out_and_each_colour_and_shape_trained_on() -> None:
    rng = np.random.default_rng(0)
    drawn = {held: [drawn_kind(rng, held=held) for _ in range(1500)] for held in (True, False)}
    kinds = {held: {(thing.colour, thing.shape) for thing in found} for held, found in drawn.items()}
    assert (len(kinds[True]), len(kinds[False])) == (12, 36)
    assert kinds[True].isdisjoint(kinds[False])
    for i, all_there in enumerate((COLOURS, SHAPES)):
        assert {kind[i] for kind in kinds[True]} == {kind[i] for kind in kinds[False]} == set(all_there)
    assert {thing.place for thing in drawn[True]} == set(PLACES)


SCENE = Scene(
    BLANK, "aloha/table", (Thing("red", "cube", "back left"), Thing("orange", "ball", "right")), {"left gripper": True}
)


def rows(scene: Scene, seed: int) -> dict[str, tuple[str, str]]:
    return {kind: (question, text) for kind, question, text in written(scene, np.random.default_rng(seed), 99)}


def test_captions() -> None:
    assert caption(SCENE) == "a red cube at the back left and an orange ball on the right"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a"]) == "a"
    frame = Scene(BLANK, "metaworld/reach", task="Open the door.", done=False)
    assert caption(frame) == "open the door, not done yet"
    assert caption(Scene(BLANK, "x", task="Push the T.", done=None)) == "push the T"


def test_answers_are_true() -> None:
    by_name = {f"{thing.colour} {thing.shape}": thing for thing in SCENE.things}
    said: Counter[tuple[str, str]] = Counter()
    for seed in range(400):
        found = rows(SCENE, seed)
        assert set(found) == {"caption", "what", "where", "which", "colour", "count", "there", "gripper", "done"}
        question, answer = found["where"]
        name = question.removeprefix("Where is the ").removesuffix("?")
        assert answer.removeprefix("at the ").removeprefix("on the ") == by_name[name].place
        question, answer = found["what"]
        assert answer.split(" ", 1)[1] in by_name
        assert by_name[answer.split(" ", 1)[1]].place in question
        question, answer = found["there"]
        name = question.removeprefix("Is there an ").removeprefix("Is there a ").removesuffix("?")
        assert (answer == "yes") == (name in by_name)
        question, answer = found["done"]
        thing = by_name["red cube"]
        assert (answer == "yes") == (question == f"The task is to put the red cube at the {thing.place}. Is it done?")
        assert found["count"][1] == "two"
        assert found["gripper"] == ("Is the left gripper open?", "yes")
        said.update({("there", found["there"][1]): 1, ("done", answer): 1})
    # Yes is as likely as no: within four standard deviations of 400 draws.
    assert all(abs(said[kind, "yes"] - 200) < 40 for kind in ("there", "done"))


def test_one_thing_from_near_is_asked_what_it_is() -> None:
    scene = Scene(BLANK, "aloha/thing", (Thing("orange", "ball", "right"),), near=True)
    assert written(scene, np.random.default_rng(0), 4) == [
        ("caption", "", "an orange ball"),
        ("thing", "What is this?", "an orange ball"),
    ]


def test_so_many_questions_as_asked_for() -> None:
    assert len(written(SCENE, np.random.default_rng(0), 3)) == 4
    assert [row[0] for row in written(SCENE, np.random.default_rng(0), 0)] == ["caption"]
    assert written(SCENE, np.random.default_rng(5), 3) == written(SCENE, np.random.default_rng(5), 3)


def test_a_frame_is_asked_for_its_task() -> None:
    frame = Scene(BLANK, "metaworld/reach", grippers={"gripper": False}, task="Open the door.", done=True)
    found = rows(frame, 0)
    assert found["task"][1] == "open the door"
    assert found["done"] == ("Is the task done?", "yes")
    assert found["gripper"] == ("Is the gripper open?", "no")
    assert "done" not in rows(Scene(BLANK, "x", task="Open the door."), 0)


def test_grippers_in_between_are_left_out() -> None:
    aloha, state = task("aloha/transfer-cube"), np.zeros(14)
    state[[6, 13]] = 0.9, 0.5
    assert open_grippers(aloha, state) == {"left gripper": True}
    assert open_grippers(task("pusht"), np.zeros(2)) == {}


def test_pictures_become_squares() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 200
    assert (squared(image, 20) == 200).all()
    assert squared(image, 33).shape == (33, 33, 3)


def test_sources_are_known_by_name() -> None:
    found = sources(("pusht/table", "metaworld/easy", "pusht"))
    assert [source.name for source in found[:2]] == ["pusht/table", "metaworld/button-press"]
    assert (found[0].each, found[1].each, found[-1].name) == (1, 6, "pusht")
    with pytest.raises(SimulatorError, match="expected aloha/table, metaworld/table, pusht/table, aloha/thing, or a"):
        sources(("aloha/tables",))


def seen(image: Any, colour: str) -> tuple[float, float]:
    """Row and column, 0 to 1, of the middle of what has this colour, among pixels whose hue and lightness are near."""
    wanted = np.array(COLOURS[colour])
    pixels = image.reshape(-1, 3) / 255
    distance = np.abs(pixels - wanted).max(1)
    near = np.flatnonzero(distance < 0.2)
    assert len(near) >= 4, f"no {colour} to be seen"
    rows, columns = np.divmod(near, image.shape[1])
    return float(np.median(rows) / image.shape[0]), float(np.median(columns) / image.shape[1])


def drawing(name: str, size: int) -> Any:
    try:
        return sources((name,))[0].open(size)
    except SimulatorError as problem:
        pytest.skip(f"needs the simulator and something to render with ({problem})")


@pytest.mark.parametrize("name", TABLES)
def test_things_are_where_they_are_said_to_be(name: str) -> None:
    drawn, places = drawing(name, 96), {}
    # Of the colours that nothing else in the pictures has.
    alone = ("red", "yellow", "purple", "orange") if name == "pusht/table" else ("blue", "yellow", "purple")
    for number in range(64 if name == "pusht/table" else 24):
        (scene,) = drawn.scenes(Wish(number, 0, held=number % 4 == 0))
        assert scene.image.shape == (96, 96, 3)
        assert scene.held == all(thing.held_out for thing in scene.things) == (number % 4 == 0)
        for thing in scene.things:
            if thing.colour in alone:
                places.setdefault(thing.place, []).append(seen(scene.image, thing.colour))
    drawn.close()
    assert len(places) >= 6
    middles = {place: np.mean(found, 0) for place, found in places.items()}
    for (one, first), (other, second) in product(middles.items(), repeat=2):
        (row, column), (another_row, another) = row_and_column(one), row_and_column(other)
        if row == another_row and column < another:
            assert first[1] < second[1] - 0.05, f"{one} is left of {other}"
        if column == another and row < another_row:
            assert first[0] < second[0] - 0.05, f"{one} is behind {other}"


def test_one_thing_is_seen_from_near() -> None:
    drawn = drawing("aloha/thing", 64)
    for number in range(16):
        held = number % 4 == 0
        (scene,) = drawn.scenes(Wish(number, 0, held=held))
        assert (scene.near, scene.held, scene.things[0].kind_held_out) == (True, held, held)
        border = np.concatenate([scene.image[[0, -1]].reshape(-1, 3), scene.image[:, [0, -1]].reshape(-1, 3)])
        table = np.median(border, 0).astype(np.uint8)
        assert (border == table).all(-1).mean() > 0.8, "much of the thing is cut off, or something else is seen"
        assert (scene.image != table).any(-1).mean() > 0.02
    drawn.close()


@pytest.mark.parametrize("name", ["aloha/table", "pusht/table"])
def test_a_scene_is_a_function_of_its_wish(name: str) -> None:
    drawn = drawing(name, 48)
    first = [drawn.scenes(Wish(number, 7, held=False))[0] for number in (3, 4)]
    again = drawn.scenes(Wish(3, 7, held=False))[0]
    drawn.close()
    assert (again.image == first[0].image).all()
    assert again.things == first[0].things
    assert (first[1].image != first[0].image).any()


def test_open_grippers_look_otherwise() -> None:
    drawn, found = drawing("metaworld/table", 96), {True: [], False: []}
    for number in range(40):
        rng = np.random.default_rng(number)
        drawn._mujoco.mj_resetData(drawn.model, drawn.data)
        grippers = drawn._pose(rng)
        drawn._mujoco.mj_kinematics(drawn.model, drawn.data)
        fingers = [drawn.data.body(name).xpos[0] for name in ("rightpad", "leftpad")]
        found[grippers["gripper"]].append(abs(fingers[0] - fingers[1]))
    drawn.close()
    assert min(found[True]) > 2 * max(found[False])


def test_moments_of_a_demonstration() -> None:
    drawn = drawing("pusht", 32)
    scenes = drawn.scenes(Wish(0, 0, held=False))
    drawn.close()
    assert 3 <= len(scenes) <= 6
    assert [scene.done for scene in scenes].count(None) == len(scenes) - 2
    assert scenes[-1].done is True
    assert [scene.done for scene in scenes].count(False) == 1
    assert scenes[0].task == task("pusht").instruction
