"""Memory and seconds until the first step of a training on millions of frames; called by data_speed.py --large.

The set: episodes of 1000 frames at 50 Hz, state (14,) and action (14,), in a recorded set's tables. A side is a fresh
process: `nextmove train flow-policy` from a source tree, or LeRobot's data set class in its own environment, which
has to hand over the first 256 shuffled windows and trains nothing. Seconds are the wall's from the call of the process,
busy seconds its processors', peak is its largest resident memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextmove.data.layout import DATA_PATH, DEFAULTS, EPISODES_PATH, parse_feature
from nextmove.data.schema import data_table, tasks_table
from turns import turns

LENGTH, WIDTH, FPS = 1000, 14, 50
FILE = 500
"""Episodes of a data file, 75 MB."""

REPORT = """
import json, resource, sys, time
def report():
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"seconds": time.time() - float(sys.argv[1]), "busy": used.ru_utime + used.ru_stime}
    print("found: " + json.dumps(found | {"peak_MB": used.ru_maxrss / 1024}), flush=True)
"""
OURS = """
from nextmove.training import run
advance = run.Run._advance
def first(self, *args):
    done = advance(self, *args)
    if self.step == 1:
        report()
    return done
run.Run._advance = first
from nextmove.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
LEROBOT = """
import torch
from lerobot.datasets import LeRobotDataset
root, horizon = sys.argv[2], int(sys.argv[3])
times = {"observation.state": [-0.02, 0.0], "action": [i / 50 for i in range(horizon)]}
seen = LeRobotDataset("bench/large", root=root, delta_timestamps=times)
next(iter(torch.utils.data.DataLoader(seen, 256, shuffle=True)))
report()
"""


def make(root: Path, frames: int) -> None:
    """Writes the set in the tables that our writer makes, without its staging of each episode."""
    vector = {"dtype": "float32", "shape": [WIDTH], "names": [f"joint_{i}" for i in range(WIDTH)]}
    made = {"observation.state": vector, "action": vector}
    entries = {**made, **{n: {"dtype": dtype, "shape": [1], "names": None} for n, dtype in DEFAULTS.items()}}
    features = {name: parse_feature(name, entry, "features") for name, entry in entries.items()}
    episodes, rng = frames // LENGTH, np.random.default_rng(0)
    for file, first in enumerate(range(0, episodes, FILE)):
        path = root / DATA_PATH.format(chunk_index=0, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = [data_table(features, _episode(rng, e)) for e in range(first, min(first + FILE, episodes))]
        pq.write_table(pa.concat_tables(tables), path, row_group_size=LENGTH)
    start = np.arange(episodes) * LENGTH
    table = {"episode_index": np.arange(episodes), "tasks": [["wave"]] * episodes, "length": [LENGTH] * episodes}
    table |= {"dataset_from_index": start, "dataset_to_index": start + LENGTH}
    for path, content in ((EPISODES_PATH, pa.table(table)), ("meta/tasks.parquet", tasks_table({0: "wave"}))):
        place = root / path.format(chunk_index=0, file_index=0)
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(content, place)
    info = {"codebase_version": "v3.0", "fps": FPS, "features": entries, "total_tasks": 1, "chunks_size": 1000}
    info |= {"total_episodes": episodes, "total_frames": episodes * LENGTH, "data_path": DATA_PATH, "video_path": None}
    (root / "meta/info.json").write_text(json.dumps(info))


def _episode(rng: np.random.Generator, number: int) -> dict[str, Any]:
    phase = rng.uniform(0, 2 * np.pi, WIDTH) + 1 / FPS * np.arange(LENGTH)[:, None] * (1 + np.arange(WIDTH))
    noisy = np.sin(phase) + 0.01 * rng.normal(size=phase.shape)
    frame = np.arange(LENGTH)
    return {
        "observation.state": noisy.astype(np.float32),
        "action": np.cos(phase).astype(np.float32),
        "timestamp": (frame / FPS).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(LENGTH, number),
        "index": number * LENGTH + frame,
        "task_index": np.zeros(LENGTH, np.int64),
    }


def first_step(source: Path, root: Path, horizon: int) -> dict[str, float]:
    """Of a training by the sources in a folder, which ends after its first step."""
    out = Path(tempfile.mkdtemp(prefix="nextmove_large_"))
    options = ["train", "flow-policy", str(root), "--steps", "1", "--out", str(out / "run")]
    options += ["--recipe.timing.horizon", str(horizon)]
    try:
        return _run([sys.executable, "-c", REPORT + OURS], options, {"PYTHONPATH": str(source)})
    finally:
        shutil.rmtree(out)


def first_windows(python: Path, root: Path, horizon: int) -> dict[str, float]:
    """Of LeRobot's data set class."""
    cache = tempfile.mkdtemp(prefix="lerobot_large_")
    try:
        environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": cache, "PYTHONPATH": ""}
        return _run([str(python), "-c", REPORT + LEROBOT], [str(root), str(horizon)], environment)
    finally:
        shutil.rmtree(cache)


def _run(command: list[str], options: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    threads = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    call = [*command, str(time.time()), *options]
    done = subprocess.run(call, env={**os.environ, **threads, **environment}, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("found: ")), None)
    if line is None:
        raise RuntimeError(f"no first step: ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return dict(json.loads(line.removeprefix("found: ")))


def measure(
    root: Path, frames: int, horizons: Sequence[int], beside: Mapping[str, Path], lerobot: Path | None, rounds: int
) -> list[dict[str, Any]]:
    """Medians of every side, which take turns; `beside` are other sources, measured at the first horizon only."""
    if not (root / "meta" / "info.json").exists():
        make(root, frames)
    out = []
    for horizon in horizons:
        sides: dict[str, Any] = {"nextmove": lambda h=horizon: first_step(Path(__file__).parents[1] / "src", root, h)}
        if horizon == horizons[0]:
            sides |= {name: lambda s=source, h=horizon: first_step(s, root, h) for name, source in beside.items()}
        if lerobot:
            sides["LeRobot"] = lambda h=horizon: first_windows(lerobot, root, h)
        for name, found in turns(sides, rounds).items():
            row = {key: round(float(np.median([one[key] for one in found])), 2) for key in found[0]}
            out.append({"side": name, "horizon": horizon, "frames": frames, **row})
            print(json.dumps(out[-1]), flush=True)
    return out
