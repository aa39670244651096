"""What a demonstration is about to do, step by step, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nextmove.sim.base import SimulatorError, Task, load


def subtasks(task: Task, columns: Mapping[str, Any]) -> list[str]:
    """The sub-task of every step; columns (T, ...) of the task's features by name.

    Raises SimulatorError for a task without words for them.
    """
    if not task.subtasks:
        raise SimulatorError(f"{task.name}: expected a task whose sub-tasks have words, found one without")
    return list(load(task.subtasks)(task, columns))
