"""What a step of a simulator costs, by what is looked at: a table for docs/data.

    python benchmarks/simulator_speed.py metaworld/reach metaworld/pick-place --camera corner2 [--write NAME]

Milliseconds of one processor, which other programs lengthen less than those of a clock; the least of three rounds.
Actions are the scripted expert's, played again. `side by side`: states alone, eight environments in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from kept_table import keep
from nextmove import sim

SIZES = (96, 128, 224, 480)
STEPS, ROUNDS, BESIDE = 20, 3, 8


def least(run: Callable[[], Any], count: int) -> float:
    """Milliseconds of one of `count`, in the fastest round."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return 1e3 * min(found) / count


def steps(env: sim.Environment, actions: Any) -> None:
    """An episode's first steps."""
    for action in actions:
        env.step(action)


def stepped(task: sim.Task, actions: Any, **seen: Any) -> float:
    """Milliseconds of a step, resets apart."""
    with closing(sim.make(task, **seen)) as env:

        def run() -> None:
            env.reset(seed=0)
            steps(env, actions)

        run()  # opens what is opened once
        reset = least(lambda: env.reset(seed=0), 1)
        return (least(run, 1) - reset) / len(actions)


def line(name: str, camera: str) -> list[str]:
    """A row of the table."""
    task = sim.task(name)
    actions = sim.demonstrate(task, 0).columns["action"][:STEPS]
    with closing(sim.make(task)) as env:
        reset = least(lambda: env.reset(seed=0), 1)
    beside = [sim.make(task) for _ in range(1 if task.one_per_process else BESIDE)]
    for number, env in enumerate(beside):
        env.reset(seed=number)

    def together() -> None:
        for action in actions[: STEPS // ROUNDS]:
            for env in beside:
                env.step(action)

    many = least(together, len(beside) * (STEPS // ROUNDS))
    for env in beside:
        env.close()
    costs = [reset, stepped(task, actions), many]
    costs += [stepped(task, actions, cameras={camera: (size, size)}) for size in SIZES]
    cells = [f"{cost:.2f}" if cost < 10 else f"{cost:.1f}" for cost in costs]
    return [f"`{name}`", *cells, f"{stepped(task, actions, points=512):.1f}" if task.cloud else "–"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--write", default="", help="name in docs/data")
    args = parser.parse_args()
    columns = ["task", "reset", "step, states alone", "side by side"]
    columns += [f"with a camera of {size}" for size in SIZES] + ["with 512 points"]
    rows = []
    for name in args.tasks:
        rows.append(line(name, args.camera))
        print(" | ".join(rows[-1]), flush=True)
    if args.write:
        keep(
            args.write,
            title=f"Milliseconds of a step of {args.tasks[0].partition('/')[0]}",
            command=f"python benchmarks/simulator_speed.py {' '.join(args.tasks)} --camera {args.camera}",
            note="Milliseconds of one processor, OpenGL in software, no shadows, no multisampling.",
            columns=columns,
            rows=rows,
            simulated=args.tasks,
        )


if __name__ == "__main__":
    main()
