"""What it costs to see points or by a camera at the wrist, beside an earlier version: a table for docs/data.

    git worktree add /tmp/before c9aaecd9
    python benchmarks/drawing_speed.py --beside c9aaecd9=/tmp/before/src [--name speed-drawing]

Milliseconds of one processor for a step of the scripted expert's, drawing included, resets apart; each side in a
process of its own, in turns, medians of rounds and of paired ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from statistics import median
from typing import Any

from kept_table import keep
from turns import turns

CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("metaworld/reach", "512 points", {"points": 512}),
    ("metaworld/pick-place", "512 points", {"points": 512}),
    ("metaworld/door-open", "512 points", {"points": 512}),
    ("aloha/transfer-cube", "512 points", {"points": 512}),
    ("metaworld/pick-place", "`gripperPOV`, 96 px", {"cameras": {"gripperPOV": (96, 96)}}),
    ("aloha/transfer-cube", "`left_wrist`, 96 px", {"cameras": {"left_wrist": (96, 96)}}),
    ("aloha/transfer-cube", "`top`, 96 px", {"cameras": {"top": (96, 96)}}),
)


def measured(number: int) -> float:
    """Milliseconds of a step of one case, by the nextmove that is imported."""
    from nextmove import sim
    from simulator_speed import STEPS, stepped

    name, _, seen = CASES[number]
    task = sim.task(name)
    return stepped(task, sim.demonstrate(task, 0).columns["action"][:STEPS], **seen)


def asked(source: str, number: int) -> float:
    """The same in a process that imports nextmove from `source`; its own installation if that is empty."""
    there = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": source} if source else {})
    told = [sys.executable, __file__, "--answer", str(number)]
    return float(json.loads(subprocess.run(told, env=there, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", help="NAME=SRC, the earlier version's folder src")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="speed-drawing", help="of the table in docs/data; empty keeps none")
    parser.add_argument("--answer", type=int, help="measure one case and print it")
    args = parser.parse_args()
    if args.answer is not None:
        print(json.dumps(measured(args.answer)))
        return
    before, _, source = args.beside.partition("=")
    rows = []
    for number, (name, what, _) in enumerate(CASES):
        sides = {"before": partial(asked, source, number), "now": partial(asked, "", number)}
        found = turns(sides, args.rounds)
        ratio = median(old / new for old, new in zip(found["before"], found["now"], strict=True))
        rows.append([f"`{name}`", what, *(f"{median(found[side]):.1f}" for side in sides), f"{ratio:.2f}"])
        print(*rows[-1], sep=" | ", flush=True)
    if args.name:
        note = (
            "Milliseconds of one processor, OpenGL in software, for a step with what it sees. What lies beside the "
            "image, or for points neither in the workspace nor before it, is not drawn, and points are chosen by a "
            "compiled loop: images and points are the same to the bit. Where a camera has all of the arm before it, "
            "nothing can be left out."
        )
        keep(
            args.name, title=f"Milliseconds of a step with points or a wrist camera, beside {before}",
            command=f"python benchmarks/drawing_speed.py --beside {before}=SRC", note=note,
            columns=["task", "seen", before, "now", "times as fast"], rows=rows,
            simulated=["metaworld/reach", "aloha/transfer-cube"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
