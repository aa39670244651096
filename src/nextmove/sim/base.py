"""What every simulator looks like from outside; names and units are LeRobot's, seeds enter by `reset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Observation: TypeAlias = dict[str, Array]
Info: TypeAlias = dict[str, Any]
Features: TypeAlias = dict[str, dict[str, Any]]


class SimulatorError(RuntimeError):
    """A simulator is unknown, not installed, or was used against its contract; the message says what to do."""


class Environment(Protocol):
    """A robot's world, stepped at `fps`; the same seed and actions give the same episode in every process."""

    name: str
    task: str
    """The instruction in words, stored with demonstrations."""
    robot_type: str
    fps: int
    max_steps: int
    features: Features
    """LeRobot entries of the observations, `action`, `next.reward`, `next.done` and `next.success`."""

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """The first observation of episode `seed`: float32 (D,) by feature name, pictures uint8 (height, width, 3)."""
        ...

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, Info]:
        """One action (A,) in the robot's units; observation, reward, terminated, truncated, info.

        `info["is_success"]` is a bool. Errors: `SimulatorError` for a wrong shape, a number that is not finite, or a
        step before `reset` or after the end.
        """
        ...

    def render(self) -> npt.NDArray[np.uint8]:
        """A picture of the present state, (height, width, 3)."""
        ...

    def close(self) -> None:
        """Frees what the simulator holds."""
        ...


@dataclass(frozen=True)
class Episode:
    """A recorded episode.

    columns: by feature name, one row a step: observation, the action taken from it, and the reward, end and success
    that followed, as in LeRobot. info: numbers worth reporting (not stored in a data set).
    """

    columns: Mapping[str, Array]
    success: bool
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["action"])


def vector(width: int, names: list[str]) -> dict[str, Any]:
    """The LeRobot entry of a float32 vector."""
    return {"dtype": "float32", "shape": [width], "names": names}


def outcome() -> Features:
    """The LeRobot entries of what follows an action."""
    return {
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
