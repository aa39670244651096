"""Seconds until nextmove answers, and megabytes it brings, beside LeRobot; one JSON object.

    python benchmarks/startup.py [--peer LEROBOT/bin/python] [--rounds 5]

Every command is a fresh process. With a peer each takes turns with LeRobot's command for the same, and `ratio` is
the median of paired ratios, LeRobot's time over ours. `installed_MB` is what lies in each environment's site-packages,
so measure in one that holds what an installation brings and no more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from turns import ratio, seconds, turns

CLI = ("-m", "nextmove.cli.main")
COMMANDS: dict[str, tuple[list[str], str]] = {
    "nextmove --help": ([*CLI, "--help"], "lerobot-train --help"),
    "import nextmove": (["-c", "import nextmove"], "import lerobot"),
    "nextmove systems": ([*CLI, "systems"], ""),
    "nextmove train flow-policy --help": ([*CLI, "train", "flow-policy", "--help"], "lerobot-train --help"),
    "import nextmove.data": (["-c", "import nextmove.data"], "import LeRobotDataset"),
    "import torch": (["-c", "import torch"], ""),
}
"""Ours, and which of LeRobot's does the same job."""
LEROBOT = {
    "lerobot-train --help": ["-m", "lerobot.scripts.lerobot_train", "--help"],
    "import lerobot": ["-c", "import lerobot"],
    "import LeRobotDataset": ["-c", "from lerobot.datasets import LeRobotDataset"],
}
SIZE = """
import sys
from pathlib import Path
places = [Path(p) for p in sys.path if p.endswith("site-packages")]
print(sum(f.stat().st_size for p in places for f in p.rglob("*") if f.is_file() and not f.is_symlink()))
"""


def fresh(python: str, arguments: list[str]) -> Callable[[], float]:
    """Seconds of a fresh process."""
    return seconds(partial(subprocess.run, [python, *arguments], check=True, capture_output=True))


def installed(python: str) -> int:
    """Megabytes in an environment's site-packages."""
    done = subprocess.run([python, "-c", SIZE], check=True, capture_output=True, text=True)
    return round(int(done.stdout) / 2**20)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with LeRobot")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    for name, (ours, theirs) in COMMANDS.items():
        sides = {"nextmove": fresh(sys.executable, ours)}
        if given.peer and theirs:
            sides[theirs] = fresh(given.peer, LEROBOT[theirs])
        found = turns(sides, given.rounds)
        rows[name] = {side: round(statistics.median(times), 3) for side, times in found.items()}
        if len(found) == 2:
            rows[name]["ratio"] = round(ratio(found[theirs], found["nextmove"]), 2)
    places = {"nextmove": sys.executable} | ({"lerobot": given.peer} if given.peer else {})
    print(json.dumps({"seconds": rows, "installed_MB": {name: installed(p) for name, p in places.items()}}, indent=1))


if __name__ == "__main__":
    main()
