"""A scripted expert for ALOHA's two tasks: fingertips along waypoints, turned into joint targets by inverse kinematics.

The waypoints depend on where the objects lie at the start and on nothing later. They are those of ACT's scripted
policy (Zhao et al. 2023), in less time: both tasks are solved well within the 300 steps that gym-aloha registers. Noise
on the executed joints wanders slowly, since arms do not follow what changes at every step, and rests where fingers
close around an object and where peg meets socket, which nothing in the script could mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.aloha import Aloha
from nextmove.sim.aloha_tasks import ALOHA
from nextmove.sim.base import Cameras, Episode, Info, Size, Task
from nextmove.sim.demonstration import check, noisy, play
from nextmove.sim.environment import Environment
from nextmove.sim.kept import kept_open

Floats = npt.NDArray[np.float64]
STEPS = 300
"""Of a script; the last waypoint is kept afterwards."""
AFTER = 10
"""Steps that are recorded after success."""
_MEMORY = 10.0
"""Steps in which the noise forgets."""
_ARMS = ("left", "right")
_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_FINGERS = np.array([0.134706, 0.0, -0.00205])
"""From the gripper's body to its fingertips, metres."""
_LEVEL, _LEFT_DOWN, _RIGHT_DOWN, _ACROSS = ("y", 0.0), ("y", 60.0), ("y", -60.0), ("x", 90.0)
"""How a gripper is turned from lying level and pointing at the other arm: about which axis, degrees."""


@dataclass(frozen=True)
class Waypoint:
    """Where a gripper is at a step: fingertips, how it is turned, and how far open (0 closed to 1)."""

    step: int
    tip: Floats
    turn: tuple[str, float]
    open: float

    @property
    def quaternion(self) -> Floats:
        """Of `turn`, w first."""
        axis, half = self.turn[0], np.radians(self.turn[1]) / 2
        return np.array([np.cos(half), *(np.sin(half) * (name == axis) for name in "xyz")])


@dataclass(frozen=True)
class Script:
    """Waypoints of both arms, and at which steps which share of the noise is executed, linear between them."""

    left: Sequence[Waypoint]
    right: Sequence[Waypoint]
    noise: Sequence[tuple[int, float]]


def _at(*xyz: float) -> Floats:
    return np.array(xyz)


def transfer_cube(objects: Floats) -> Script:
    """The right hand picks up the cube and holds it out, the left one takes it."""
    cube, middle = objects[:3], _at(0, 0.5, 0.25)
    above, around, beside = cube + _at(0, 0, 0.08), cube - _at(0, 0, 0.015), middle + _at(0.05, 0, 0)
    apart, taking = middle - _at(0.1, 0, 0.02), middle + _at(0.02, 0, -0.02)
    right = (
        Waypoint(0, _at(0.1825, 0.5, 0.2932), _LEVEL, 0),
        Waypoint(70, above, _RIGHT_DOWN, 1),
        Waypoint(100, around, _RIGHT_DOWN, 1),
        Waypoint(125, around, _RIGHT_DOWN, 0),
        Waypoint(165, beside, _RIGHT_DOWN, 0),
        Waypoint(180, middle, _RIGHT_DOWN, 0),
        Waypoint(240, middle, _RIGHT_DOWN, 0),
        Waypoint(255, middle, _RIGHT_DOWN, 1),
        Waypoint(290, middle + _at(0.1, 0, 0), _RIGHT_DOWN, 1),
    )
    left = (
        Waypoint(0, _at(-0.1825, 0.5, 0.2932), _LEVEL, 0),
        Waypoint(80, apart, _ACROSS, 1),
        Waypoint(220, taking, _ACROSS, 1),
        Waypoint(240, taking, _ACROSS, 0),
        Waypoint(290, apart, _LEVEL, 0),
    )
    return Script(left, right, ((0, 1), (60, 1), (70, 0), (125, 0), (135, 1), (160, 1), (170, 0)))


def insertion(objects: Floats) -> Script:
    """The right hand picks up the peg, the left one the socket; they meet in the air."""
    peg, socket, middle = objects[:3], objects[7:10], _at(0, 0.5, 0.15)

    def arm(start: Floats, thing: Floats, turn: tuple[str, float], side: float, rise: float) -> tuple[Waypoint, ...]:
        around = thing - _at(0, 0, 0.03)
        return (
            Waypoint(0, start, _LEVEL, 0),
            Waypoint(90, thing + _at(0, 0, 0.08), turn, 1),
            Waypoint(125, around, turn, 1),
            Waypoint(160, around, turn, 0),
            Waypoint(210, middle + _at(side * 0.1, 0, rise), turn, 0),
            Waypoint(255, middle + _at(side * 0.05, 0, rise), turn, 0),
        )

    left = arm(_at(-0.1825, 0.5, 0.2932), socket, _LEFT_DOWN, -1, 0)
    right = arm(_at(0.1825, 0.5, 0.2932), peg, _RIGHT_DOWN, 1, 0.00715)
    return Script(left, right, ((0, 1), (80, 1), (90, 0), (160, 0), (170, 0.2), (190, 0.2), (200, 0)))


SCRIPTS = {"transfer_cube": transfer_cube, "insertion": insertion}
"""By gym-aloha's names of its tasks: from the poses of the objects (14,) to what the hands do."""


def joint_targets(physics: Any, script: Script) -> Floats:
    """(STEPS, 14): the actions that lead the fingertips along a script, from where the arms are now."""
    from nextmove.sim._arm_ik import ArmIk

    solver = ArmIk(
        physics.model.ptr,
        {f"vx300s_{arm}/gripper_link": [f"vx300s_{arm}/{joint}" for joint in _JOINTS] for arm in _ARMS},
        [f"vx300s_{arm}/{joint}" for arm in _ARMS for joint in ("forearm_roll", "wrist_rotate")],
    )
    solver.begin(np.array(physics.data.qpos))
    rows = []
    for step in range(1, STEPS + 1):
        row: list[float] = []
        for arm in _ARMS:
            tip, quaternion, width = _between(getattr(script, arm), step)
            row += [*solver.joints(f"vx300s_{arm}/gripper_link", *_held(arm, tip, quaternion)), width]
        rows.append(row)
    return np.array(rows)


def _between(waypoints: Sequence[Waypoint], step: int) -> tuple[Floats, Floats, float]:
    """Fingertips, quaternion and opening on the straight line between the waypoints around a step."""
    before = max((point for point in waypoints if point.step <= step), key=lambda point: point.step)
    after = next((point for point in waypoints if point.step > step), before)
    share = (step - before.step) / max(after.step - before.step, 1)
    quaternion = (1 - share) * before.quaternion + share * after.quaternion
    tip = (1 - share) * before.tip + share * after.tip
    return tip, quaternion / np.linalg.norm(quaternion), (1 - share) * before.open + share * after.open


def _held(arm: str, tip: Floats, quaternion: Floats) -> tuple[Floats, Floats]:
    """Position and quaternion of a gripper's body whose fingertips are there; the right arm faces the left one."""
    w, x, y, z = quaternion
    turned = quaternion if arm == "left" else np.array([-z, y, -x, w])
    return tip - _rotated(turned, _FINGERS), turned


def _rotated(quaternion: Floats, vector: Floats) -> Floats:
    w, axis = quaternion[0], quaternion[1:]
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)


class _Noise:
    """What is added to the joints of an episode: it wanders with a standard deviation of `spread` radians.

    Grippers have none, for their opening decides whether they hold.
    """

    def __init__(self, spread: float, shares: Sequence[tuple[int, float]], rng: np.random.Generator) -> None:
        steps, weights = zip(*shares, strict=True)
        self._weights = np.interp(np.arange(STEPS), steps, weights)
        self._joints = np.array([*[1.0] * 6, 0.0] * 2)
        self._spread, self._rng, self._step, self._now = spread, rng, 0, np.zeros(14)

    def __call__(self, meant: Floats) -> Floats:
        """The action that is executed in place of the next one meant."""
        kept = np.exp(-1 / _MEMORY)
        self._now = kept * self._now + np.sqrt(1 - kept**2) * self._spread * self._rng.standard_normal(14)
        weight = self._weights[min(self._step, STEPS - 1)]
        self._step += 1
        return meant + weight * self._joints * self._now


class _Scripted:
    """The expert at work on one episode."""

    def __init__(self, physics: Any, make: Any) -> None:
        self._physics, self._make = physics, make
        self._targets: Floats = np.zeros((0, 14))
        self._step = 0

    def __call__(self, info: Info) -> Floats:
        if not self._step:
            self._targets = joint_targets(self._physics, self._make(info["objects"]))
        self._step += 1
        return self._targets[min(self._step, len(self._targets)) - 1]


@kept_open
def _environment(name: str, cameras: tuple[tuple[str, Size], ...], points: int) -> Environment:
    """The task's, which goes on after success and ends with the script."""
    task = next(task for task in ALOHA if task.name == name)
    scripted = replace(task, holds=False, max_steps=STEPS)
    return Environment(scripted, Aloha(task, dict(cameras), points), dict(cameras), points)


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

    It ends `AFTER` steps beyond the first success, or with the script. A share `noisy_share` in [0, 1] of them, spread
    evenly over the numbers, has noise of a standard deviation of `noise` radians on the executed joints; the columns
    hold the targets that were meant. The episode may have failed. Errors: ValueError naming the setting.
    """
    check(noisy_share=noisy_share, number=number, seed=seed, noise=noise)
    environment = _environment(task.name, tuple((cameras or {}).items()), points)
    script = SCRIPTS[task.settings["task"]]
    aloha: Any = environment.simulator
    disturb = None
    if noise and noisy(number, noisy_share):
        disturb = _Noise(noise, script(np.zeros(14)).noise, np.random.default_rng((seed + number, 1)))
    return play(environment, seed + number, _Scripted(aloha.env.physics, script), disturb=disturb, after=AFTER)
