"""The checked environment around every simulator: actions in, observations with their instruction out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim.base import POINTS, Array, Info, Observation, Simulator, SimulatorError, Size, Task, shown


class Environment:
    """One task, stepped at `fps`; the same seed and actions give the same episode in every process.

    Observations hold every feature as float32 (D,), every camera asked for as uint8 (height, width, 3) of its size, a
    depth as float32 (height, width, 1) in metres, the points asked for as float32 (P, 3), and `task`, the instruction.
    """

    def __init__(
        self,
        task: Task,
        simulator: Simulator,
        cameras: dict[str, Size] | None = None,
        points: int = 0,
        told: Callable[[int], str] | None = None,
    ) -> None:
        """told: what is said in the episode of a seed in place of the task's instruction."""
        self.task, self.simulator, self.cameras = task, simulator, dict(cameras or {})
        self._told, self.instruction = told, task.instruction
        entries = {**task.features, **task.clouds(points)}
        numbers = {n: ("float32", tuple(f["shape"])) for n, f in entries.items() if n != "action"}
        self._shapes = numbers | shown(self.cameras)
        self._steps: int | None = None

    @property
    def fps(self) -> int:
        """Actions a second."""
        return self.task.fps

    @property
    def max_steps(self) -> int:
        """Actions of an episode at most."""
        return self.task.max_steps

    @property
    def holds(self) -> bool:
        """Whether success lasts and ends an episode."""
        return self.task.holds

    @property
    def seeing(self) -> bool:
        """Whether cameras look; where a simulator can leave them out, images are zeros while nobody reads them."""
        return bool(getattr(self.simulator, "seeing", True))

    @seeing.setter
    def seeing(self, on: bool) -> None:
        if hasattr(self.simulator, "seeing"):
            self.simulator.seeing = on

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """The first observation of episode `seed`, at which cameras look.

        Raises SimulatorError where points are asked for and none is seen: later in an episode they are zeros then.
        """
        self.seeing = True
        self.instruction = self._told(seed) if self._told else self.task.instruction
        observation, info = self.simulator.reset(seed=seed)
        self._steps = 0
        observation = self._checked(observation)
        if POINTS in observation and not observation[POINTS].any():
            raise SimulatorError(
                f"{POINTS}: expected to see something of {self.task.name}'s workspace at the start of episode {seed}, "
                "found nothing"
            )
        return observation, info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """One action (A,) in the robot's units; observation, reward, terminated, truncated, info.

        A task whose success can be lost again is never terminated, only truncated.

        `info["is_success"]` is a bool. Errors: `SimulatorError` for a wrong shape, a number that is not finite, or a
        step before `reset` or after the end.
        """
        if self._steps is None:
            raise SimulatorError("step: expected reset(seed=...) first, and again after the end of an episode")
        observation, reward, over, info = self.simulator.step(self._action(action))
        self._steps += 1
        terminated = over and self.task.holds
        truncated = self._steps >= self.max_steps
        if terminated or truncated:
            self._steps = None
        return self._checked(observation), float(reward), terminated, truncated, info

    def render(self) -> npt.NDArray[np.uint8]:
        """An image of the present state for people, (height, width, 3)."""
        return self.simulator.render()

    def close(self) -> None:
        """Frees what the simulator holds."""
        self.simulator.close()

    def _action(self, action: Any) -> Array:
        found, width = np.asarray(action, dtype=np.float32), self.task.action
        if found.shape != (width,) or not np.isfinite(found).all():
            raise SimulatorError(f"action: expected {width} finite numbers in {self.task.unit}, found {action!r}")
        return found

    def _checked(self, observation: Observation) -> Observation:
        if observation.keys() != self._shapes.keys():
            raise SimulatorError(
                f"{self.task.name}: observation: expected {sorted(self._shapes)}, found {sorted(observation)}"
            )
        for name, (dtype, shape) in self._shapes.items():
            value = observation[name]
            if value.shape != shape or value.dtype != dtype:
                raise SimulatorError(
                    f"{self.task.name}: {name}: expected {dtype} {shape}, found {value.dtype} {value.shape}"
                )
        return {**observation, "task": self.instruction}
