"""Every task of every simulator as one table; importing it loads no simulator."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from nextmove.config import nearest
from nextmove.sim import metaworld_tasks as metaworld
from nextmove.sim.aloha_tasks import ALOHA
from nextmove.sim.base import SimulatorError, Task, vector
from nextmove.sim.libero_tasks import LIBERO

_CORNERS = [axis + str(i) for i in range(8) for axis in "xy"]

PUSHT = Task(
    name="pusht",
    simulator="gym-pusht",
    instruction="Push the T-shaped block onto the T-shaped target.",
    fps=10,
    max_steps=300,
    unit="px",
    robot_type="pusht",
    features={
        "observation.state": vector(2, ["x", "y"]),
        "observation.environment_state": vector(16, _CORNERS),
        "observation.goal": vector(16, _CORNERS),
        "action": vector(2, ["x", "y"]),
    },
    cameras={"observation.image": (96, 96)},
    make="nextmove.sim.pusht:PushT",
    expert="nextmove.sim.pusht_expert:demonstrate",
    noise=5.0,
    packages=("pymunk", "shapely", "pygame"),
)

SUITES: dict[str, tuple[Task, ...]] = {"pusht": (PUSHT,), "aloha": ALOHA, **metaworld.SUITES, **LIBERO}
"""Tasks that are judged together, by the name of the suite. A task may belong to several; one alone is its own."""


FORMER = {"aloha-transfer-cube": "aloha/transfer-cube", "aloha-insertion": "aloha/insertion"}
"""Names that tasks had, which are still found, with a notice."""


def named() -> dict[str, tuple[Task, ...]]:
    """Every task and every suite by name."""
    return {**{task.name: (task,) for suite in SUITES.values() for task in suite}, **SUITES}


def find(name: str) -> tuple[Task, ...]:
    """The tasks of a suite, or the one task of this name.

    Raises SimulatorError for a name that is neither, naming what there is.
    """
    if name in FORMER:
        warnings.warn(f"task: {name} is called {FORMER[name]} now", FutureWarning, stacklevel=2)
    known = named()
    found = known.get(FORMER.get(name, name))
    if found is None:
        raise SimulatorError(
            f"task: expected a task or suite of a simulator, such as the suites {', '.join(SUITES)}, found {name!r}"
            f"{nearest(name, known)}; `nextmove tasks` lists all"
        )
    return found


def suite_of(tasks: Iterable[str]) -> str | None:
    """The one task, or the smallest suite, that has all these tasks; None where none has, and of no tasks."""
    wanted = {FORMER.get(name, name) for name in tasks}
    having = [(len(found), name) for name, found in named().items() if {task.name for task in found} >= wanted]
    return min(having)[1] if having and wanted else None


def task(name: str) -> Task:
    """The one task of this name; raises SimulatorError for an unknown name and for a suite of several."""
    found = find(name)
    if len(found) > 1:
        raise SimulatorError(
            f"task: expected one task, found {name!r}, a suite of {', '.join(one.name for one in found)}"
        )
    return found[0]
