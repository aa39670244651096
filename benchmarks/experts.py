"""Scripted experts on seeds of their tasks: a table for docs/data.

    python benchmarks/experts.py libero/object [--seeds 50] [--first 100000] [--noise 0] [--onwards] [--write]
    python benchmarks/experts.py metaworld/easy metaworld/medium metaworld/hard metaworld/very-hard --onwards --write

The seeds are those of evaluation. Where success can be lost again, --onwards lets the expert go on to the last step
that the task allows, and counts who still has it there. Finished episodes are kept in runs/experts, by task, seed and
noise, and the same command goes on from them; remove the folder after a change of the simulator or the expert.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kept_table import keep
from nextmove import sim
from nextmove.evaluation.intervals import wilson
from nextmove.host.files import write_json

COLUMNS = ["task", "solved", "95 % interval", "steps to the first success, median", "at most"]
LAST = "at the last step"
BOUND = 0.95
"""Tasks that are solved less often are named."""


def episode(task: sim.Task, seed: int, noise: float, onwards: bool, folder: Path) -> dict[str, Any]:
    """Whether the expert solves a seed, in how many steps, and whether it still has at the last; played once."""
    onwards = onwards and not task.holds
    path = folder / f"{task.name.replace('/', '.')}-{seed}-{noise:g}{'-onwards' * onwards}.json"
    if path.is_file():
        return json.loads(path.read_text())
    played = sim.demonstrate(task, 0, seed=seed, noise=noise, **({"more": task.max_steps} if onwards else {}))
    won = played.columns["next.success"]
    found = {"success": bool(played.success), "steps": int(won.argmax()) + 1 if won.any() else len(played)}
    found["last"] = bool(won[-1])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def row(name: str, played: Sequence[dict[str, Any]], onwards: bool) -> list[str]:
    """One line of the table."""
    won = [e["steps"] for e in played if e["success"]]
    rate = wilson(len(won), len(played))
    steps = [f"{statistics.median(won):.0f}", str(max(won))] if won else ["–", "–"]
    return [name, f"{len(won)}/{len(played)}", f"{100 * rate.low:.0f}–{100 * rate.high:.0f} %", *steps] + (
        [f"{sum(e['last'] for e in played)}/{len(played)}"] if onwards else []
    )


def table(names: Sequence[str], args: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """The lines of all suites, and the tasks that are solved less often than the bound."""
    seeds, rows, weak = range(args.first, args.first + args.seeds), [], []
    everything: list[dict[str, Any]] = []
    for name in names:
        tasks, played = sim.find(name), []
        for task in tasks:
            found = [episode(task, seed, args.noise, args.onwards, args.kept) for seed in seeds]
            played += found
            rows.append(row(f"`{task.name}`", found, args.onwards))
            print(" | ".join(rows[-1]), flush=True)
            weak += [f"`{task.name}`"] if sum(e["success"] for e in found) < BOUND * len(found) else []
        if len(tasks) > 1:
            rows.append(row(f"all of {name}" if len(names) > 1 else "all", played, args.onwards))
        everything += played
    if len(names) > 1:
        rows.append(row("all", everything, args.onwards))
    return rows, weak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", help="tasks or suites")
    parser.add_argument("--seeds", type=int, default=50, help="of each task")
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--noise", type=float, default=0.0, help="on the executed actions, as when recording")
    parser.add_argument("--onwards", action="store_true", help="beyond success, where it can be lost")
    parser.add_argument("--kept", type=Path, default=Path("runs/experts"))
    parser.add_argument("--write", action="store_true", help="into docs/data")
    args = parser.parse_args()
    rows, weak = table(args.tasks, args)
    noise = f", noise of {args.noise:g} on the executed actions" if args.noise else ""
    below = f" Below {100 * BOUND:.0f} %: {', '.join(weak)}." if len(args.tasks) > 1 and weak else ""
    note = f"Seeds {args.first} to {args.first + args.seeds - 1} of each task{noise}.{below}"
    print(rows[-1], note, sep="\n")
    if args.write:
        options = "" if args.seeds == 50 else f" --seeds {args.seeds}"
        options += (f" --noise {args.noise:g}" if args.noise else "") + " --onwards" * args.onwards
        what = args.tasks[0] if len(args.tasks) == 1 else args.tasks[0].partition("/")[0]
        keep(
            f"experts-{what.replace('/', '-')}{'-noise' if args.noise else ''}",
            title=f"The scripted expert of {what}{', disturbed' if args.noise else ''}",
            command=f"python benchmarks/experts.py {' '.join(args.tasks)}{options}",
            note=note,
            columns=[*COLUMNS, *[LAST] * args.onwards],
            rows=rows,
            simulated=args.tasks,
        )


if __name__ == "__main__":
    main()
