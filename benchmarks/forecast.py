"""Memory and time that trainings foresee before their first step, beside what they take.

    python benchmarks/forecast.py

Records a few episodes of PushT and trains four small policies on them for a few steps on one thread, those with
transformers with and without gradient checkpointing. What each says in its train.jsonl goes to docs/data/forecast.json.
Seconds are the processor's for the training's one thread, so that other programs on the machine count for little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kept_table import keep

BUSY = "import sys, time; time.perf_counter = time.thread_time; from nextmove.cli.main import main; sys.exit(main())"
"""The command line by a clock that stands still while other programs compute."""
TRAININGS = (
    # system, data, steps, gradient checkpointing
    ("bc", "states", 40, False),
    ("flow-policy", "states", 40, False),
    ("smolvla", "camera", 8, False),
    ("smolvla", "camera", 8, True),
    ("openvla-oft", "camera", 8, False),
    ("openvla-oft", "camera", 8, True),
)


def call(*arguments: str) -> None:
    """A command that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", BUSY, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def measured(system: str, data: Path, steps: int, checkpointing: bool, out: Path) -> list[Any]:
    """A row: what was foreseen, what was found, and by how much they differ."""
    call(
        "train", system, str(data), "--steps", str(steps), "--threads", "1", "--bf16", "off", "--out", str(out),
        *(["--gradient-checkpointing"] if checkpointing else []),
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    foreseen = next(line["predicted"] for line in lines if "predicted" in line)
    found = next(line["took"] for line in lines if "took" in line)
    row: list[Any] = [system, "yes" if checkpointing else "no", steps]
    for name, unit, digits in (("bytes", 1e6, 0), ("seconds", 1e-3, 1)):
        row += [f"{foreseen[name] / unit:.{digits}f}", f"{found[name] / unit:.{digits}f}"]
        row += [f"{100 * (found[name] / foreseen[name] - 1):+.0f} %"]
    return row


def main() -> None:
    """All trainings."""
    with tempfile.TemporaryDirectory() as place:
        folder, rows = Path(place), []
        for name, cameras in (("states", ()), ("camera", ("--cameras", "image=96x96"))):
            call("record", "pusht", "--episodes", "4", "--workers", "0", "--out", str(folder / name), *cameras)
        for i, (system, data, steps, checkpointing) in enumerate(TRAININGS):
            rows.append(measured(system, folder / data, steps, checkpointing, folder / str(i)))
            print(*rows[-1], flush=True)
    keep(
        "forecast",
        title="Memory and time of a training, foreseen and found",
        command="python benchmarks/forecast.py",
        note=(
            "Small policies on four demonstrations of PushT, with a camera of 96 px where they see, in float32 on one "
            "thread, at their usual batches. What each foresaw before its first step and what its steps took, the "
            "whole process counted; seconds are the processor's for that thread, data, validation and saving apart."
        ),
        columns=[
            "system", "gradient checkpointing", "steps", "MB foreseen", "MB found", "off (memory)",
            "ms a step foreseen", "ms a step found", "off (time)",
        ],
        rows=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
