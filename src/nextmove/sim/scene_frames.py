"""Moments of demonstrations: what the robot is at, whether its gripper is open, whether it is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nextmove.sim import demonstrate, make
from nextmove.sim.base import Array, SimulatorError, Task
from nextmove.sim.scene import Scene, Wish
from nextmove.sim.tasks import task

MOMENTS = 6
"""Scenes of a demonstration, evenly from its first moment to its end."""
HELD = 1_000_000
"""Seeds from which held-out demonstrations are."""
GRIPPERS: Mapping[str, Mapping[str, tuple[tuple[int, ...], float, float]]] = {
    "sawyer": {"gripper": ((3,), 0.6, 0.9)},
    "aloha": {"left gripper": ((6,), 0.35, 0.65), "right gripper": ((13,), 0.35, 0.65)},
    "panda": {"gripper": ((9, 10), 0.05, 0.07)},
}
"""By robot and gripper: numbers of its state that are added up, closed below the first bound, open above the second."""


class FrameScenes:
    """Scenes of the demonstrations of one task."""

    def __init__(self, name: str, size: int) -> None:
        """name: of a task with an expert; size: of the pictures.

        Raises SimulatorError for an unknown task, one without an expert, and where it is not installed.
        """
        self.task, self.size = task(name), size
        if not self.task.expert:
            raise SimulatorError(f"{name}: expected a task with a scripted expert, found one without")
        self._env = make(self.task)

    def scenes(self, wish: Wish) -> list[Scene]:
        """Moments of the demonstration that is wished for, the last as it ends; a function of the wish alone.

        Whether it is done is said of the last and of one other.
        """
        rng, seed = wish.rng(self.task.name), wish.seed + wish.number + HELD * wish.held
        actions = demonstrate(self.task, 0, seed=seed, noise=0.0, noisy_share=0.0).columns["action"]
        chosen = {round(at) for at in np.linspace(0, len(actions), MOMENTS)}
        early = sorted(chosen)[int(rng.integers(len(chosen) - 1))]
        (observation, info), over, found = self._env.reset(seed=seed), False, list[Scene]()
        for step in range(len(actions) + 1):
            # Another environment than the expert's may come to its end a step sooner.
            over = over or step == len(actions)
            if step in chosen or over:
                done = bool(info["is_success"]) if over or step == early else None
                found.append(self._scene(observation, done, wish.held))
            if over:
                break
            observation, _, terminated, truncated, info = self._env.step(actions[step])
            over = terminated or truncated
        return found

    def close(self) -> None:
        """Frees what the simulator holds."""
        self._env.close()

    def _scene(self, observation: Mapping[str, Any], done: bool | None, held: bool) -> Scene:
        image = squared(self._env.render(), self.size)
        grippers = open_grippers(self.task, observation["observation.state"])
        return Scene(image, self.task.name, (), grippers, self.task.instruction, done, held)


def open_grippers(task: Task, state: Array) -> dict[str, bool]:
    """Whether a robot's grippers are open, of those that are clearly open or clearly closed."""
    found = {}
    for name, (places, closed, opened) in GRIPPERS.get(task.robot_type, {}).items():
        width = float(np.abs(np.asarray(state)[list(places)]).sum())
        if not closed <= width <= opened:
            found[name] = width > opened
    return found


def squared(image: Array, size: int) -> Array:
    """The middle square of an image (height, width, 3), resized."""
    from PIL import Image

    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    middle = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return np.asarray(
        middle.resize((size, size), Image.Resampling.BOX if side % size == 0 else Image.Resampling.BICUBIC)
    )
