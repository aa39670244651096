"""Instructions of a suite exchanged among its tasks: what a policy does then, it does without listening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextmove.sim.base import SimulatorError, Task

_STREAM = 24
"""Of the generator that exchanges instructions, apart from all others of the same seed."""


@dataclass(frozen=True)
class Shuffled:
    """What is said in the episodes of one task: `shuffled(seed)` is the instruction of another.

    The seed draws an order of the suite's tasks in which none has its own instruction, all alike; so for every seed
    each instruction is said once, to another task.
    """

    texts: tuple[str, ...]
    """Instructions of the suite's tasks."""
    own: int
    """Which of them is the task's own."""

    @classmethod
    def of(cls, task: Task, tasks: Sequence[Task]) -> Shuffled:
        """Of a task of a suite; raises SimulatorError where another one says the same."""
        texts = tuple(one.instruction for one in tasks)
        if len(set(texts)) < max(2, len(texts)):
            raise SimulatorError(
                f"shuffled: expected several tasks of different instructions, found {len(texts)} with "
                f"{len(set(texts))} instructions; name a suite, such as metaworld/mt10"
            )
        return cls(texts, [one.name for one in tasks].index(task.name))

    def __call__(self, seed: int) -> str:
        """The instruction of another task, the same in every process."""
        rng = np.random.default_rng((seed, _STREAM))
        own = np.arange(len(self.texts))
        while ((order := rng.permutation(len(self.texts))) == own).any():
            pass
        return self.texts[order[self.own]]
