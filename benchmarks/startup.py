"""Seconds until nextmove answers, and megabytes it brings; one JSON object.

python benchmarks/startup.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "nextmove --help": [sys.executable, "-m", "nextmove.cli.main", "--help"],
    "import nextmove": [sys.executable, "-c", "import nextmove"],
    "nextmove systems": [sys.executable, "-m", "nextmove.cli.main", "systems"],
    "nextmove train flow-policy --help": [sys.executable, "-m", "nextmove.cli.main", "train", "flow-policy", "--help"],
    "import nextmove.data": [sys.executable, "-c", "import nextmove.data"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 3)


def main() -> None:
    site = Path(json.__file__).parent.parent / "site-packages"
    packages = [Path(p) for p in sys.path if p.endswith("site-packages")] or [site]
    size = sum(f.stat().st_size for p in packages for f in p.rglob("*") if f.is_file() and not f.is_symlink())
    found = {name: seconds(command) for name, command in COMMANDS.items()}
    print(json.dumps({"seconds": found, "installed_MB": round(size / 2**20)}))


if __name__ == "__main__":
    main()
