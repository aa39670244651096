"""Captions, and questions with their answers, of scenes; the true and the false are asked for equally often.

A row is a kind, a question ("" for captions) and the text that answers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nextmove.sim.scene import COLOURS, PLACES, TEE, Scene, Thing

Row = tuple[str, str, str]
NUMBERS = ("none", "one", "two", "three", "four")
YES = ("no", "yes")


def written(scene: Scene, rng: np.random.Generator, questions: int) -> list[Row]:
    """The caption of a scene and so many different questions about it, fewer where there are no more."""
    asked = [row for row in _questions(scene, rng) if row[1]]
    chosen = rng.permutation(len(asked))[:questions]
    return [("caption", "", caption(scene)), *(asked[i] for i in sorted(chosen.tolist()))]


def caption(scene: Scene) -> str:
    """What is to be seen, in one sentence."""
    if scene.near:
        return _a(_named(scene.things[0]))
    if scene.things:
        return listed([f"{_a(_named(thing))} {_at(thing.place)}" for thing in scene.things])
    state = "" if scene.done is None else ", done" if scene.done else ", not done yet"
    return f"{_lower(scene.task)}{state}"


def listed(parts: Sequence[str]) -> str:
    """One after another, `and` before the last."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _questions(scene: Scene, rng: np.random.Generator) -> Iterator[Row]:
    if scene.near:
        yield "thing", "What is this?", caption(scene)
        return
    if scene.things:
        yield from _about_things(scene.things, rng)
    for name, is_open in scene.grippers.items():
        yield "gripper", f"Is the {name} open?", YES[is_open]
    if scene.things:
        yield _moved(scene.things[0], rng)
    elif scene.task:
        yield "task", "What is the robot's task?", _lower(scene.task)
        if scene.done is not None:
            yield "done", "Is the task done?", YES[scene.done]


def _about_things(things: Sequence[Thing], rng: np.random.Generator) -> Iterator[Row]:
    thing = things[int(rng.integers(len(things)))]
    yield "what", f"What is {_at(thing.place)}?", _a(_named(thing))
    yield "where", f"Where is the {_named(thing)}?", _at(thing.place)
    yield "colour", f"What colour is the {thing.shape}?", thing.colour
    if thing.shape != TEE:  # which is always one, and always a T
        yield "which", f"Which thing is {thing.colour}?", f"the {thing.shape}"
        yield "count", "How many things are on the table?", NUMBERS[len(things)]
    # What is asked for in vain has a colour and a shape of its own, or one that another thing has.
    true = bool(rng.integers(2))
    colours = [c for c in COLOURS if c != thing.colour]
    other = Thing(thing.colour if true else str(rng.choice(colours)), thing.shape, thing.place)
    if not true and len(things) > 1 and rng.integers(2):
        another = next(one for one in things if one is not thing)
        other = Thing(another.colour, thing.shape, thing.place)
    yield "there", f"Is there {_a(_named(other))}?", YES[true]


def _moved(thing: Thing, rng: np.random.Generator) -> Row:
    """Whether an instruction has been followed."""
    true = bool(rng.integers(2))
    place = thing.place if true else str(rng.choice([place for place in PLACES if place != thing.place]))
    return "done", f"The task is to put the {_named(thing)} {_at(place)}. Is it done?", YES[true]


def _named(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _at(place: str) -> str:
    side = place in ("left", "right")
    return f"on the {place}" if side else f"in the {place}" if place == "middle" else f"at the {place}"


def _lower(sentence: str) -> str:
    """An instruction inside of a sentence."""
    text = sentence.strip().rstrip(".")
    return text[:1].lower() + text[1:]
