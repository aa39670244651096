"""Where scenes come from: tables with coloured things, and demonstrations of tasks; importing it loads no simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nextmove.config import nearest
from nextmove.sim.base import SimulatorError, load
from nextmove.sim.scene import Scene, Wish
from nextmove.sim.tasks import find

TABLES: Mapping[str, tuple[str, str]] = {
    "aloha/table": ("nextmove.sim.scene_table:TableScenes", "aloha/transfer-cube"),
    "metaworld/table": ("nextmove.sim.scene_table:TableScenes", "metaworld/reach"),
    "pusht/table": ("nextmove.sim.scene_pusht:PushTScenes", "pusht"),
}
"""What draws a table, and a task of its simulator."""
NEAR: Mapping[str, tuple[str, str]] = {"aloha/thing": ("nextmove.sim.scene_table:TableScenes", "aloha/transfer-cube")}
"""What draws one thing from near, and a task of its simulator."""
FRAMES, MOMENTS = "nextmove.sim.scene_frames:FrameScenes", 6


class Drawing(Protocol):
    """What draws the scenes of one source."""

    def scenes(self, wish: Wish) -> list[Scene]:
        """The scenes of a wish: one of a table, `MOMENTS` of a demonstration, or fewer of a short one."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


@dataclass(frozen=True)
class Source:
    """A source of scenes by name."""

    name: str
    make: str
    """`module:name` of what builds its `Drawing`: `name(source, size)`."""
    each: int
    """Scenes of a wish."""
    task: str
    """A task of its simulator."""

    def open(self, size: int) -> Drawing:
        """What draws it at a height and width of `size`; raises SimulatorError where it is not installed."""
        made: Drawing = load(self.make)(self.name, size)
        return made


def sources(names: tuple[str, ...]) -> tuple[Source, ...]:
    """The sources of these names: tables, things, tasks, or suites of tasks, each once.

    Raises SimulatorError naming what is none of them.
    """
    found: dict[str, Source] = {}
    still = {**TABLES, **NEAR}
    for name in names:
        if name in still:
            found[name] = Source(name, still[name][0], 1, still[name][1])
            continue
        try:
            tasks = find(name)
        except SimulatorError as problem:
            close = nearest(name, still)
            raise SimulatorError(f"tasks: expected {', '.join(still)}, or a task{close}: {problem}") from None
        found |= {task.name: Source(task.name, FRAMES, MOMENTS, task.name) for task in tasks}
    return tuple(found.values())
