"""How fast two cameras are loaded beside LeRobot, epoch by epoch; called by data_speed.py --lerobot.

Both sides take turns on the same files: 5000 windows of 2 observations and 16 actions, two 96x96 cameras as AV1, in
batches of 64 in random order. Our first epoch decodes every frame into a store that is not there yet, and reads it; a
later one opens the store. LeRobot decodes at every epoch alike, so a few of its batches are timed.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data import Loader, Windows, open_dataset
from nextmove.data.frames import FOLDER, stored_frames
from turns import Peer, ratio, turns

BATCH, CAMERAS = 64, ("observation.images.cam0", "observation.images.cam1")


def epoch(root: Path, *, first: bool, workers: int = 0) -> float:
    """Windows a second of one epoch, from opening the data set on."""
    if first:
        shutil.rmtree(root / FOLDER, ignore_errors=True)
    began = time.perf_counter()
    dataset = open_dataset(root)
    found = stored_frames(dataset, dict.fromkeys(CAMERAS, (96, 96)), dataset.episodes, limit=1e10, say=lambda _: None)
    assert found is not None
    windows = Windows(dataset, ["observation.state", *CAMERAS], frames=found.cameras)
    steps = iter(Loader(windows, BATCH, workers=workers))
    count = -(-len(windows) // BATCH)
    seen = sum(int(np.prod(next(steps)["action"].shape[:1])) for _ in range(count))
    return seen / (time.perf_counter() - began)


def measure(root: Path, lerobot: Path, rounds: int, batches: int) -> list[dict[str, Any]]:
    """Windows a second of every side, medians of rounds, and paired ratios to LeRobot with as many workers."""
    script = str(Path(__file__).with_name("lerobot_speed.py"))
    with Peer([str(lerobot), script, "frames", str(root)]) as peer:
        sides: dict[str, Callable[[], float]] = {
            "LeRobot, no workers": lambda: float(peer("rate", workers=0, batches=batches)),
            "first epoch, no workers": lambda: epoch(root, first=True),
            "later epoch, no workers": lambda: epoch(root, first=False),
            "LeRobot, 2 workers": lambda: float(peer("rate", workers=2, batches=2 * batches)),
            "first epoch, 2 workers": lambda: epoch(root, first=True, workers=2),
            "later epoch, 2 workers": lambda: epoch(root, first=False, workers=2),
        }
        found = turns(sides, rounds)
    rows = []
    for name, rates in found.items():
        peers = found[f"LeRobot, {name.split(', ')[1]}"]
        best = [max(pair) for pair in zip(found["LeRobot, no workers"], found["LeRobot, 2 workers"], strict=True)]
        rows.append(
            {
                "side": name,
                "windows_per_s": round(statistics.median(rates), 1),
                "over_lerobot": round(ratio(rates, peers), 1),
                "over_lerobot_at_its_best": round(ratio(rates, best), 1),
            }
        )
    return rows
