"""A still picture of a simulator and what is true of it: coloured things, their places, grippers, what is achieved.

Places are as they look in the picture, so that left is the picture's left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from zlib import crc32

import numpy as np

from nextmove.sim.base import Array

COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.90, 0.08, 0.08),
    "green": (0.10, 0.65, 0.10),
    "blue": (0.12, 0.25, 0.95),
    "yellow": (0.98, 0.92, 0.10),
    "orange": (1.00, 0.50, 0.02),
    "purple": (0.60, 0.10, 0.75),
    "white": (0.96, 0.96, 0.96),
    "black": (0.04, 0.04, 0.04),
}
"""Red, green, blue of each colour's name, 0 to 1."""
SHAPES = ("cube", "ball", "can", "pyramid", "plate", "bar")
TEE = "T"
"""PushT's block, the one shape of its own."""
PLACES = (
    "back left", "back", "back right", "left", "middle", "right", "front left", "front", "front right",
)  # fmt: skip
"""Three by three, from the far left to the near right."""
MODULUS, KINDS = 7, 4


@dataclass(frozen=True)
class Thing:
    """A coloured thing at a place."""

    colour: str
    shape: str
    place: str

    @property
    def held_out(self) -> bool:
        """Whether this colour, shape and place are never trained on together: a seventh of all, spread evenly.

        Each two of them come together with others of the third.
        """
        c, p = [*COLOURS].index(self.colour), PLACES.index(self.place)
        return (c + 2 * (*SHAPES, TEE).index(self.shape) + 3 * p) % MODULUS == 0

    @property
    def kind_held_out(self) -> bool:
        """Whether this colour and shape are never trained on together, wherever it lies: a fourth of all."""
        return ([*COLOURS].index(self.colour) + (*SHAPES, TEE).index(self.shape)) % KINDS == 0


@dataclass(frozen=True)
class Scene:
    """A picture (height, width, 3) uint8 and what is true of it.

    things: those that were put there. grippers: whether each is open, by how it is called; those in between are left
    out. task, done: what the robot is at, and whether that is achieved; None: nothing is said of it. held: whether it
    is for tests. near: it shows one thing from near, of which is said what it is and nothing else.
    """

    image: Array
    source: str
    things: tuple[Thing, ...] = ()
    grippers: Mapping[str, bool] = field(default_factory=dict)
    task: str = ""
    done: bool | None = None
    held: bool = False
    near: bool = False


@dataclass(frozen=True)
class Wish:
    """What a scene is to be: number `number` of a source, of things never or always held out."""

    number: int
    seed: int
    held: bool

    def rng(self, source: str, what: int = 0) -> np.random.Generator:
        """Draws that are this scene's own, of one purpose."""
        return np.random.default_rng([self.seed, self.number, int(self.held), crc32(source.encode()), what])


def drawn_things(rng: np.random.Generator, count: int, *, held: bool, shapes: Sequence[str] = SHAPES) -> list[Thing]:
    """So many things of different colours, shapes and places, all of them held out or none, from the back on."""
    while True:
        left, chosen = _all(held, tuple(shapes)), list[Thing]()
        while left and len(chosen) < count:
            one = left[int(rng.integers(len(left)))]
            chosen.append(one)
            left = [t for t in left if t.colour != one.colour and t.shape != one.shape and t.place != one.place]
        if len(chosen) == count:
            return sorted(chosen, key=lambda thing: PLACES.index(thing.place))


@cache
def _all(held: bool, shapes: tuple[str, ...]) -> list[Thing]:
    things = (Thing(*one) for one in product(COLOURS, shapes, PLACES))
    return [thing for thing in things if thing.held_out == held]


def drawn_kind(rng: np.random.Generator, *, held: bool) -> Thing:
    """A thing of a colour and shape that are held out together, or not, at any place."""
    kinds = [
        thing for thing in (Thing(*one, PLACES[0]) for one in product(COLOURS, SHAPES)) if thing.kind_held_out == held
    ]
    return replace(kinds[int(rng.integers(len(kinds)))], place=PLACES[int(rng.integers(len(PLACES)))])


def row_and_column(place: str) -> tuple[int, int]:
    """Where a place is: 0 the back to 2 the front, 0 the left to 2 the right."""
    return divmod(PLACES.index(place), 3)
