"""`nextmove tasks`: every suite of simulated tasks, and the tasks of one, from the table of tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from nextmove.cli.systems import table
from nextmove.config import ConfigError
from nextmove.sim import SUITES, Task, find

COLUMNS = ("suite", "tasks", "simulator", "rate", "steps", "action", "cameras", "expert", "success")


def suites() -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for every suite."""
    return [(name, *_row(tasks)) for name, tasks in SUITES.items()]


def show(args: Sequence[str]) -> int:
    """Prints the table of suites, or the tasks of the suite or task that is named; `--json` prints JSON lines."""
    names = [word for word in args if not word.startswith("-")]
    if set(args) & {"-h", "--help"}:
        print("usage: nextmove tasks [SUITE] [--json]\n\nWhat `record`, `evaluate` and `compare` take as TASK.")
        return 0
    if len(names) > 1 or [word for word in args if word not in (*names, "--json")]:
        raise ConfigError(f"expected a suite or task, or none, and --json, found {' '.join(args)!r}")
    chosen = find(names[0]) if names else tuple({t.name: t for suite in SUITES.values() for t in suite}.values())
    if "--json" in args:
        for task in chosen:
            print(json.dumps(asdict(task)))
        return 0
    if names:
        table([("task", "instruction"), *((task.name, task.instruction) for task in chosen)])
        return 0
    rows = [(*row, _installed(SUITES[row[0]][0])) for row in suites()]
    table([(*COLUMNS, "installed"), *rows])
    print(f"\n{len(chosen)} tasks. `nextmove tasks SUITE` lists those of one; docs/simulators.md says what to install.")
    return 0


def _row(tasks: Sequence[Task]) -> tuple[str, ...]:
    one = tasks[0]
    sizes = {f"{height} x {width}" for task in tasks for height, width in task.cameras.values()}
    expert = "yes" if all(task.expert for task in tasks) else "no"
    lasts = "ends the episode" if one.holds else "can be lost again"
    cameras = f"{len(one.cameras)}, {' or '.join(sorted(sizes))}"
    return (
        str(len(tasks)), one.simulator, f"{one.fps} Hz", str(one.max_steps), f"{one.action} ({one.unit})", cameras,
        expert, lasts,
    )  # fmt: skip


def _installed(task: Task) -> str:
    try:
        return version(task.simulator)
    except PackageNotFoundError:
        return "no"
