"""Whether actions relative to the state would say where joints go or where they stand, by robots that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nextmove import data
from nextmove.jobs.spaces import settle
from nextmove.jobs.standing import offset, offsets
from nextmove.jobs.tasks.policy import spec_of
from nextmove.models.policy import ActionSpace
from nextmove.models.policy.bc import BC

Array = NDArray[np.float64]
Load = Callable[[Array], Array]
NAMES = ["shoulder", "elbow", "gripper"]
FRAMES, EPISODES = 200, 5


def none(command: Array) -> Array:
    return np.zeros_like(command)


def weight(command: Array) -> Array:
    """An arm that sinks under its own weight, the more so the further it is stretched out."""
    return 0.4 * np.cos(command)


def pushed(command: Array) -> Array:
    """Something leans on the joint, now here and now there."""
    rng = np.random.default_rng(0)
    return np.repeat(0.3 * rng.normal(size=len(command) // 10), 10)


def played(loads: tuple[Load, Load], *, inertia: float = 0.0, unit: float = 1.0) -> tuple[Array, Array]:
    """Commands and states (T, 3): joints go `1 - inertia` of the way at each step, and stop short under a load."""
    t = np.arange(EPISODES * FRAMES)
    command = np.stack([np.sin(0.031 * t), 0.7 * np.cos(0.023 * t + 1), np.sign(np.sin(0.02 * t))], 1)
    short = np.stack([loads[0](command[:, 0]), loads[1](command[:, 1]), 0.5 * np.cos(0.1 * t)], 1)
    state = command - short
    for i in range(1, len(t)):
        state[i] = inertia * state[i - 1] + (1 - inertia) * (command[i - 1] - short[i])
    return unit * command, unit * state


def recorded(root: Path, command: Array, state: Array, names: list[str] = NAMES) -> data.Dataset:
    vector = {"dtype": "float32", "shape": [3], "names": names}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    for a, s in zip(np.split(command, EPISODES), np.split(state, EPISODES), strict=True):
        writer.add_episode({"observation.state": s.astype(np.float32), "action": a.astype(np.float32)}, "x")
    return data.open_dataset(writer.finalize())


@pytest.mark.parametrize(
    ("loads", "inertia", "unit", "lost"),
    [
        ((none, none), 0.0, 1.0, []),
        ((none, none), 0.8, 1.0, []),
        ((none, weight), 0.5, 1.0, ["elbow"]),
        ((pushed, none), 0.5, 1.0, ["shoulder"]),
        ((weight, pushed), 0.5, 1000.0, ["shoulder", "elbow"]),
        # The same weight on an arm that is sent far ahead of where it is, as it moves ten times as fast as it sinks.
        ((none, lambda command: 0.01 * weight(command)), 0.8, 1.0, []),
    ],
)
def test_actions_stay_absolute_where_joints_stop_short_of_their_targets(
    tmp_path: Path, loads: tuple[Load, Load], inertia: float, unit: float, lost: list[str]
) -> None:
    dataset = recorded(tmp_path / "set", *played(loads, inertia=inertia, unit=unit))
    found, said = settle(BC(), spec_of(dataset), dataset)
    assert found.actions.space == ("absolute" if lost else "relative"), said
    assert all(name in said for name in lost)
    assert ("stop short of their targets, not where they go" in said) == bool(lost)
    asked = replace(BC(), actions=ActionSpace(space="relative"))
    assert settle(asked, spec_of(dataset), dataset)[0].actions.space == "relative"


def test_the_share_is_that_of_the_offset_whatever_the_units() -> None:
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(size=4003))
    command = np.stack([path[k : k + 4000] for k in range(4)])
    lag = 2 * (command[2] - command[1])
    for size in (0.0, 1.0, 4.0):
        rest = size * rng.normal(size=4000)
        for unit in (1e-3, 1.0, 1e5):
            # Where the joint was before says nothing here.
            state, before = command[2] - lag - rest, command[2] - lag - rest + rng.normal(size=4000)
            share = offset(unit * command, unit * state, unit * before)
            assert share == pytest.approx(size**2 / (size**2 + 4), abs=0.02)


def test_nothing_is_said_of_few_frames_and_of_joints_that_stay_absolute_or_never_move(tmp_path: Path) -> None:
    command, state = played((weight, pushed), inertia=0.5)
    command[:, 1] = 0.3
    dataset = recorded(tmp_path / "set", command, state)
    shares = offsets(dataset, "observation.state", [0, 1, -1])
    assert shares[0] > 0.5
    assert shares[1:].tolist() == [0, 0]
    few = recorded(tmp_path / "few", command[:100], state[:100]).select([0])
    assert offsets(few, "observation.state", [0, 1, 2]).tolist() == [0, 0, 0]
