"""What every vision-language-action system learns from scratch in a minute: to look and to listen.

    python -m benchmarks.listening                  # all of them, about a minute each
    python -m benchmarks.listening --only rt1 pi0   # the rows of others stay as they were

The scenes are those of the slow tests (`tests/models/listening.py`): a red and a blue square, two instructions, and
which of two motions is right; a tiny form of each system learns on them as often as the tests train it. Seconds are the
processor's, of one thread, so that other programs do not lengthen them.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from benchmarks.kept_table import keep, rows
from tests.models.listening import TINY, right, trained

NAME = "listening"
SCENES = 256
COLUMNS = ["system", "M parameters", "steps of 32 scenes", "s of training", "right", "told otherwise"]
NOTE = (
    "A tiny form of each system, one training seed, on scenes of 32 px drawn anew at every step. Right: motions on new "
    "scenes that end nearer to the right motion's end than to the other's. Told otherwise: with another scene's "
    "instruction, half of which are the same; a policy that does not listen would be right as often as before. Chance "
    "is half. Seconds of the processor, one thread."
)


def row(system: str) -> list[str]:
    """Trains and judges one."""
    began = time.process_time()
    policy = trained(system)
    seconds = time.process_time() - began
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    shares = [right(policy, count=SCENES), right(policy, shuffled=True, count=SCENES)]
    solved = [f"{round(share * SCENES)}/{SCENES}" for share in shares]
    return [system, f"{size:.2f}", str(TINY[system][1]), f"{seconds:.0f}", *solved]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(TINY), choices=list(TINY))
    torch.set_num_threads(1)
    only: list[str] = parser.parse_args().only
    made: dict[str, list[Any]] = {one[0]: one for one in rows(NAME)}
    for system in only:
        made[system] = row(system)
        print(*made[system], flush=True)
        keep(
            NAME,
            title="What the systems that see, read and act learn in a minute",
            command="python -m benchmarks.listening",
            note=NOTE,
            columns=COLUMNS,
            rows=[made[name] for name in TINY if name in made],
        )


if __name__ == "__main__":
    main()
