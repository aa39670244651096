"""The environments of several tasks, of which a process holds one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nextmove.evaluation.episode import Env

Makers = Mapping[str, Callable[[], Env]]
"""What makes the environment of each task, by the task's name."""


def look(env: Env, on: bool) -> None:
    """Tells an environment that can leave its cameras out whether its next observation will be read."""
    if hasattr(env, "seeing"):
        env.seeing = on


class Worlds:
    """The environment of the task that is played now; the one before is closed, since some simulators hold only one."""

    def __init__(self, makers: Makers) -> None:
        self._makers = makers
        self._task = ""
        self._env: Env | None = None

    def __call__(self, task: str) -> Env:
        """The environment of `task`, made when the task changes."""
        if self._env is None or task != self._task:
            self.close()
            self._task, self._env = task, self._makers[task]()
        return self._env

    def close(self) -> None:
        """Closes the environment there is."""
        if self._env is not None:
            self._env.close()
        self._env = None

    def __del__(self) -> None:
        """So that what plays next in this process finds room."""
        self.close()
