"""How fast we load robot data; prints one JSON object.

    python benchmarks/data_speed.py [--batches 400] [--video-batches 20] [--keep DIR] [--no-cold]

Makes, with our writer, the two sets on which LeRobot is timed: 50 episodes x 100 frames at 10 Hz, state (14,) and
action (14,), without images and with two 96x96 cameras as AV1 video (key frame every second frame, crf 30). Measures
windows of 2 observations and 16 actions, batches of 64 in random order (2 frames per camera per window) with 0, 1, 2
workers: per second, and without workers also per second of this process's CPU time, which a busy machine does not
change. `video_cached` keeps decoded frames in memory and is measured after all have been decoded once.

    python benchmarks/data_speed.py --keep SETS --frames --lerobot LEROBOT/bin/python [--rounds 3]

Two cameras beside LeRobot in turns, first and later epochs with the store of decoded frames (frames_speed.py).

    python benchmarks/data_speed.py --large SET [--beside a44a6f4=SRC] [--lerobot LEROBOT/bin/python] [--rounds 3]

Makes a set of two million frames where SET is not there (a minute) and measures memory and seconds until the first step
of a training on it, at horizons 16 and 100 (large_set.py); SRC is the folder src of another version (git worktree).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

import frames_speed
import large_set
from nextmove.data import Dataset, DatasetWriter, Loader, Windows, open_dataset

BATCH, EPISODES, FRAMES = 64, 50, 100


def make(root: Path, cameras: int) -> float:
    """Write the set; seconds it took."""
    features: dict[str, dict[str, Any]] = {
        name: {"dtype": "float32", "shape": [14]} for name in ("observation.state", "action")
    }
    features |= {f"observation.images.cam{c}": {"dtype": "video", "shape": [96, 96, 3]} for c in range(cameras)}
    begin = time.perf_counter()
    writer = DatasetWriter(root, features, 10)
    y, x = np.mgrid[0:96, 0:96]
    for e in range(EPISODES):
        t = np.arange(FRAMES)
        phase = np.arange(14) + 0.1 * t[:, None] + e
        columns: dict[str, Any] = {"observation.state": np.sin(phase), "action": np.cos(phase)}
        for c in range(cameras):
            columns[f"observation.images.cam{c}"] = np.stack([_picture(x, y, s, e, c) for s in range(FRAMES)])
        writer.add_episode(columns, f"task {e % 5}")
    writer.finalize()
    return time.perf_counter() - begin


def _picture(x: np.ndarray, y: np.ndarray, t: int, e: int, c: int) -> np.ndarray:
    channels = [(x * 2 + 5 * t + 40 * c) % 256, (y * 2 + 3 * t + 7 * e) % 256, (x + y + t) % 256]
    return np.stack(channels, -1).astype(np.uint8)


def measure(dataset: Dataset, cameras: int, workers: int, batches: int) -> dict[str, float]:
    """Windows a second through the loader."""
    names = ["observation.state", *(f"observation.images.cam{c}" for c in range(cameras))]
    loader = Loader(Windows(dataset, names), BATCH, workers=workers)
    begin = time.perf_counter()
    steps: Iterator[Any] = iter(loader)
    next(steps)
    first = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(steps)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    out = {"windows_per_s": round(batches * BATCH / wall, 1), "first_batch_s": round(first, 3), "batches": batches}
    return out if workers else {**out, "windows_per_cpu_s": round(batches * BATCH / cpu, 1)}


def cold(code: str) -> float:
    """Seconds of a fresh process, best of three."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - begin)
    return round(min(times), 2)


def run(root: Path, batches: int, video_batches: int) -> dict[str, Any]:
    """All measurements on the sets below `root`, made where they are missing."""
    out: dict[str, Any] = {}
    for name, cameras in (("state", 0), ("video", 2)):
        if not (root / name / "meta" / "info.json").exists():
            out[f"write_{name}_s"] = round(make(root / name, cameras), 2)
        begin = time.perf_counter()
        dataset = open_dataset(root / name)
        out[f"open_{name}_s"] = round(time.perf_counter() - begin, 4)
        item = 50 if cameras else 200
        begin = time.perf_counter()
        for i in range(item):
            dataset.item(i * 37 % len(dataset), {"observation.state": [-0.1, 0.0]}, return_uint8=True)
        out[f"item_{name}_ms"] = round((time.perf_counter() - begin) / item * 1e3, 3)
        for workers in (0, 1, 2):
            out[f"{name}_workers{workers}"] = measure(dataset, cameras, workers, video_batches if cameras else batches)
    cached = open_dataset(root / "video", frame_cache_mb=1024)
    for camera in ("observation.images.cam0", "observation.images.cam1"):
        cached.video(camera).frames(cached.rows)
    out["video_cached_workers0"] = measure(cached, 2, 0, batches)
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--video-batches", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="folder for the sets, used again if they are there")
    parser.add_argument("--no-cold", action="store_true", help="leave out the process start times")
    parser.add_argument("--large", type=Path, help="folder of a large set: measures the start of a training on it")
    parser.add_argument("--size", type=int, default=2_000_000, help="frames of the large set")
    parser.add_argument("--frames", action="store_true", help="epochs of two cameras beside LeRobot")
    parser.add_argument("--horizons", type=int, nargs="+", default=[16, 100])
    parser.add_argument("--beside", nargs="*", default=[], metavar="NAME=SRC", help="other versions of nextmove")
    parser.add_argument("--lerobot", type=Path, help="python of LeRobot's environment")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.large:
        others = {name: Path(source) for name, source in (text.split("=", 1) for text in given.beside)}
        large_set.measure(given.large, given.size, given.horizons, others, given.lerobot, given.rounds)
        return
    if given.frames:
        if not (given.keep / "video" / "meta" / "info.json").exists():
            make(given.keep / "video", 2)
        for row in frames_speed.measure(given.keep / "video", given.lerobot, given.rounds, given.video_batches // 4):
            print(json.dumps(row), flush=True)
        return
    out: dict[str, Any] = {"cpus": os.cpu_count()}
    if not given.no_cold:
        out["process_import_nextmove_s"] = cold("import nextmove")
        out["process_import_data_s"] = cold("import nextmove.data")
    root = given.keep or Path(tempfile.mkdtemp(prefix="nextmove_speed_"))
    try:
        out |= run(root, given.batches, given.video_batches)
    finally:
        if not given.keep:
            shutil.rmtree(root)
    print(json.dumps({**out, "load_average": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
