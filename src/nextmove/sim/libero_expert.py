"""A scripted expert for LIBERO: takes hold of the thing, carries it over its goal, lowers it and lets go.

The grasp is planned on the surfaces of everything that is there (`_grasps`), so that flat boxes, bottles, bowls by
their rim, and a bowl in a drawer are one case. Every action is proportional to what is still to go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nextmove.sim._grasps import Floats, Grasp, best, surface, turned
from nextmove.sim.base import Array, Cameras, Episode, Info, Size, Task
from nextmove.sim.demonstration import check, noisy, play
from nextmove.sim.environment import Environment
from nextmove.sim.kept import kept_open
from nextmove.sim.libero import Libero
from nextmove.sim.libero_tasks import LIBERO

_DOWN = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
"""The gripper's orientation before it is turned: pointing down, closing along y."""
_GAIN, _TURNING = 12.0, 1.5
"""Of what is still to go, in actions a metre and a radian."""
_OPEN, _CLOSED = -1.0, 1.0
_YAWS = np.deg2rad(np.arange(-90, 91, 15.0))
_CLOSING, _LETTING_GO = 10, 20
"""Steps that the gripper is given."""
_LOST = 0.05
"""Metres by which what is held has moved against the fingertips where it is held no more."""
_ABOVE = 0.03
"""Metres between what is carried and what it passes over."""


def rotation_vector(rotation: Floats) -> Floats:
    """Axis times angle (3,) of a rotation (3, 3) by less than half a turn."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine = float(np.linalg.norm(axis))
    return axis * (np.arctan2(sine, float(np.trace(rotation)) - 1) / sine if sine > 1e-9 else 0.5)


class Expert:
    """The expert at work on one episode: `expert(info)` is its next action (7,), from the world as it then is."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._plan: Iterator[Array] | None = None

    def __call__(self, info: Info) -> Array:
        """The next action; the first call looks at where everything is."""
        if self._plan is None:
            self._plan = self._actions()
        return next(self._plan)

    def _look(self) -> Grasp | None:
        model, data, world = self._world.model, self._world.data, self._world
        self._target = surface(model, data, {world.target})
        self._goal = surface(model, data, {world.goal})
        self._others = surface(model, data, set(world.bodies.values()) - {world.target})
        return best(self._target, self._others, _YAWS)

    def _actions(self) -> Iterator[Array]:
        """All actions, phase by phase, from the beginning where it failed; the environment ends the episode."""
        self._facing = _DOWN
        while True:
            grasp = self._look()
            if grasp is not None:
                self._facing = turned(grasp.yaw) @ _DOWN
                yield from self._take(grasp.point)
                yield from self._place()
            yield from self._stay(_OPEN, _LETTING_GO)
            up = self._world.tip[0] + np.array([0, 0, 0.1])
            yield from self._go(lambda up=up: up, _OPEN, flat=0.03, height=0.03, steps=20)

    def _take(self, point: Floats) -> Iterator[Array]:
        rise = max(0.08, self._target[:, 2].max() + _ABOVE - point[2])
        above = point + np.array([0, 0, rise])
        yield from self._go(lambda: above, _OPEN, flat=0.01, height=0.03, steps=80)
        yield from self._go(lambda: point, _OPEN, flat=0.008, height=0.006, steps=40)
        yield from self._stay(_CLOSED, _CLOSING)

    def _place(self) -> Iterator[Array]:
        """Lifts, carries and lowers what is held, until it is held no more."""
        middle = (self._goal[:, :2].min(0) + self._goal[:, :2].max(0)) / 2
        start = self._world.tip[0]
        hanging = start[2] - self._target[:, 2].min()
        high = self._clear(start[:2], middle) + _ABOVE + hanging
        low = self._world.pose(self._world.goal)[0][2] + 0.01 + hanging
        held = self._reach()
        for place, flat, height, steps in (
            (lambda: np.array([*start[:2], high]), 0.03, 0.04, 60),
            (lambda: np.array([*self._over(middle), high]), 0.012, 0.05, 100),
            (lambda: np.array([*self._over(middle), low]), 0.012, 0.01, 40),
        ):
            for action in self._go(place, _CLOSED, flat=flat, height=height, steps=steps):
                if np.linalg.norm(self._reach() - held) > _LOST:
                    return
                yield action

    def _reach(self) -> Floats:
        """From the thing to the tips (3,)."""
        return np.asarray(self._world.tip[0] - self._world.pose(self._world.target)[0])

    def _over(self, middle: Floats) -> Floats:
        """Where the tips have to be for the thing held to be over `middle` (2,)."""
        return np.asarray(middle + self._reach()[:2])

    def _clear(self, start: Floats, end: Floats) -> float:
        """Height of what lies within 15 cm of the straight way, or of the goal."""
        way, points = end - start, self._others
        share = ((points[:, :2] - start) @ way / max(float(way @ way), 1e-9)).clip(0, 1)
        near = np.linalg.norm(points[:, :2] - (start + share[:, None] * way), axis=1) < 0.15
        return float(max(points[near, 2].max(initial=-np.inf), self._goal[:, 2].max()))

    def _go(self, place: Any, grip: float, *, flat: float, height: float, steps: int) -> Iterator[Array]:
        """Towards a place (3,), until it is reached within `flat` and `height` metres or `steps` have passed."""
        for _ in range(steps):
            rest = place() - self._world.tip[0]
            turn = rotation_vector(self._facing @ self._world.tip[1].T)
            if np.linalg.norm(rest[:2]) < flat and abs(rest[2]) < height and np.linalg.norm(turn) < 0.15:
                return
            yield self._towards(rest, turn, grip)

    def _stay(self, grip: float, steps: int) -> Iterator[Array]:
        place = self._world.tip[0]
        for _ in range(steps):
            turn = rotation_vector(self._facing @ self._world.tip[1].T)
            yield self._towards(place - self._world.tip[0], turn, grip)

    def _towards(self, rest: Floats, turn: Floats, grip: float) -> Array:
        return np.concatenate([_GAIN * rest, _TURNING * turn, [grip]]).clip(-1, 1).astype(np.float32)


@kept_open
def _environment(name: str, cameras: tuple[tuple[str, Size], ...], points: int) -> Environment:
    task = next(task for suite in LIBERO.values() for task in suite if task.name == name)
    return Environment(task, Libero(task, dict(cameras), points), dict(cameras), points)


def demonstrate(
    task: Task,
    number: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    noisy_share: float = 1.0,
    cameras: Cameras | None = None,
    points: int = 0,
) -> Episode:
    """Demonstration `number`: the environment's episode `seed` + `number`, the same in every process.

    A share `noisy_share` in [0, 1] of them, spread evenly over the numbers, has noise of a standard deviation of
    `noise` on the executed motion, in shares of a step's largest displacement and rotation; the columns hold the
    actions that were meant. The episode may have failed. Errors: ValueError naming the setting.
    """
    check(noisy_share=noisy_share, number=number, seed=seed, noise=noise)
    environment = _environment(task.name, tuple((cameras or {}).items()), points)
    rng, simulator = np.random.default_rng((seed + number, 1)), environment.simulator

    def disturb(meant: Array) -> Array:
        return np.asarray((meant + noise * rng.normal(size=7) * _MOTION).clip(-1, 1), np.float32)

    expert = Expert(simulator.world)  # type: ignore[attr-defined]
    return play(environment, seed + number, expert, disturb=disturb if noise and noisy(number, noisy_share) else None)


_MOTION = np.array([1, 1, 1, 1, 1, 1, 0])
"""A gripper that opens by chance drops what it holds."""
