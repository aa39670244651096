"""Scripted experts on seeds of their tasks: a table for docs/data.

    python benchmarks/experts.py libero/object [--seeds 50] [--first 100000] [--noise 0] [--write]

The seeds are those of evaluation. Finished episodes are kept in runs/experts, by task, seed and noise, and the same
command goes on from them; remove the folder after a change of the simulator or the expert.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextmove import sim
from nextmove.evaluation.intervals import wilson
from nextmove.evaluation.machine import machine
from nextmove.host.files import write_json
from nextmove.sim.versions import installed

COLUMNS = ["task", "solved", "95 % interval", "steps to the first success, median", "at most"]


def episode(task: sim.Task, seed: int, noise: float, folder: Path) -> dict[str, Any]:
    """Whether the expert solves a seed, and in how many steps; played once."""
    path = folder / f"{task.name.replace('/', '.')}-{seed}-{noise:g}.json"
    if path.is_file():
        return json.loads(path.read_text())
    played = sim.demonstrate(task, 0, seed=seed, noise=noise)
    won = played.columns["next.success"]
    found = {"success": bool(played.success), "steps": int(won.argmax()) + 1 if won.any() else len(played)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def row(name: str, played: Sequence[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    won = [e["steps"] for e in played if e["success"]]
    rate = wilson(len(won), len(played))
    steps = [f"{statistics.median(won):.0f}", str(max(won))] if won else ["–", "–"]
    return [name, f"{len(won)}/{len(played)}", f"{100 * rate.low:.0f}–{100 * rate.high:.0f} %", *steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a task or a suite")
    parser.add_argument("--seeds", type=int, default=50, help="of each task")
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--noise", type=float, default=0.0, help="on the executed actions, as when recording")
    parser.add_argument("--kept", type=Path, default=Path("runs/experts"))
    parser.add_argument("--write", action="store_true", help="into docs/data")
    args = parser.parse_args()
    seeds, played, rows = range(args.first, args.first + args.seeds), [], []
    for task in sim.find(args.task):
        found = [episode(task, seed, args.noise, args.kept) for seed in seeds]
        played += found
        rows.append(row(f"`{task.name}`", found))
        print(" | ".join(rows[-1]), flush=True)
    if len(rows) > 1:
        rows.append(row("all", played))
        print(" | ".join(rows[-1]))
    if args.write:
        suffix = "-noise" if args.noise else ""
        name = f"experts-{args.task.replace('/', '-')}{suffix}"
        noise = f", noise of {args.noise:g} on the executed actions" if args.noise else ""
        now = installed(sim.find(args.task), cameras=False)["packages"]
        versions = ", ".join(f"{package} {version}" for package, version in now.items())
        content = {
            "title": f"The scripted expert of {args.task}" + (", disturbed" if args.noise else ""),
            "command": f"python benchmarks/experts.py {args.task}" + (f" --noise {args.noise:g}" if args.noise else ""),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(),
            "note": f"Seeds {seeds[0]} to {seeds[-1]} of each task{noise}; {versions}.",
            "columns": COLUMNS,
            "rows": rows,
        }
        path = Path("docs/data") / f"{name}.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
