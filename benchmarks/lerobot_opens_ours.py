"""Does LeRobot read what we write? Prints one JSON line.

    python benchmarks/lerobot_opens_ours.py write DIR     # in our environment
    python benchmarks/lerobot_opens_ours.py check DIR     # in an environment with LeRobot 0.6.1 (Python 3.12)

`write` makes DIR/dataset, a set of every kind of feature in several small files, DIR/frames.npz with the numbers that
went in, and adds to it by a second writer. `check` needs numpy and LeRobot only: it opens DIR/dataset and compares
every item, alone and with windows, with what went in; videos differ by the loss of
coding, for these waves 5 / 255 in the mean, depths by that of their codes and of whole millimetres, at most 2.8 mm.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

FPS, LENGTHS = 10, (18, 12, 30, 23, 15)
TASKS = ("pick up the red cube", "put the cube in the left bowl", "wipe the table é")
NUMBERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "observation.state": ("float32", (6,)),
    "action": ("float32", (4,)),
    "next.reward": ("float32", (1,)),
    "next.done": ("bool", (1,)),
    "observation.grid": ("float32", (2, 3)),
    "observation.force": ("float64", (3,)),
    "observation.cells": ("float32", (2, 1, 3)),
    "observation.counts": ("int64", (2,)),
}
CAMERAS = {"observation.images.top": "video", "observation.images.side": "video", "observation.images.tactile": "image"}
DEPTHS = {"observation.images.near": "m", "observation.images.far": "mm"}
WINDOW = {"observation.state": [-0.1, 0.0], "action": [i / 10 for i in range(-1, 15)], "observation.grid": [0.0, 0.3]}


def frames_of(rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """One episode's columns."""
    out: dict[str, np.ndarray] = {}
    for name, (dtype, shape) in NUMBERS.items():
        values = rng.normal(size=(length, *shape)) * 3
        out[name] = (values > 0 if dtype == "bool" else values).astype(dtype)
    out["observation.state"][:, 4] = 300.1
    y, x, t = np.mgrid[0:48, 0:64, 0:length]
    for number, name in enumerate(CAMERAS):
        phase = rng.uniform(0, 6)
        waves = [x / 9 + t / 2 + phase, y / 7 - t / 3 + number, (x + y) / 11 + t / 1.7]
        picture = np.stack([128 + 100 * np.sin(w) for w in waves], -1).astype(np.uint8)
        frames = np.moveaxis(picture, 2, 0)
        out[name] = frames[:, ::4, ::4] if CAMERAS[name] == "image" else frames
    metres = np.moveaxis(0.2 + (x + 64 * y) / 320 + t / 100, 2, 0)[..., None].astype(np.float32)
    return out | {
        name: metres if unit == "m" else np.rint(metres * 1000).astype(np.uint16) for name, unit in DEPTHS.items()
    }


def write(folder: Path) -> dict[str, Any]:
    """Make the set with our writer."""
    from nextmove.data import DatasetWriter, doctor

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    features: dict[str, dict[str, Any]] = {n: {"dtype": d, "shape": list(s)} for n, (d, s) in NUMBERS.items()}
    for name, kind in CAMERAS.items():
        features[name] = {"dtype": kind, "shape": [12, 16, 3] if kind == "image" else [48, 64, 3]}
    for name, unit in DEPTHS.items():
        features[name] = {"dtype": "video", "shape": [48, 64, 1], "info": {"is_depth_map": True, "depth_unit": unit}}
    features["phase"] = {"dtype": "string", "shape": [1]}
    rng, given, tasks = np.random.default_rng(0), [], []
    small = {"data_files_size_in_mb": 0.03, "video_files_size_in_mb": 0.02, "chunks_size": 2}
    writer = DatasetWriter(folder / "dataset", features, FPS, "arm", **small)  # type: ignore[arg-type]
    for episode, length in enumerate(LENGTHS):
        if episode == len(LENGTHS) - 1:  # The last one is added to a finished set.
            writer.finalize()
            writer = DatasetWriter(folder / "dataset", features, FPS, "arm", resume=True, **small)  # type: ignore[arg-type]
        columns = frames_of(rng, length)
        names = [TASKS[(episode + (t > 10)) % 3] for t in range(length)]
        writer.add_episode({**columns, "phase": [f"phase {t} ü" for t in range(length)]}, names)
        given.append(columns)
        tasks += names
    writer.finalize()
    whole = {name: np.concatenate([columns[name] for columns in given]) for name in given[0]}
    np.savez_compressed(folder / "frames.npz", **whole, task=np.array(tasks))
    findings = [str(f) for f in doctor(folder / "dataset") if f.level == "error"]
    return {"episodes": len(LENGTHS), "frames": sum(LENGTHS), "doctor": findings}


def check(folder: Path) -> dict[str, Any]:
    """Open the set with LeRobot and compare everything."""
    from lerobot.datasets import LeRobotDataset

    given = dict(np.load(folder / "frames.npz", allow_pickle=False))
    tasks = given.pop("task").tolist()
    options = {"root": folder / "dataset", "video_backend": "pyav", "return_uint8": True}
    alone = LeRobotDataset("ours/set", **options)
    worst = {"max_abs_diff": 0.0, "max_abs_diff_images": 0.0, "max_abs_diff_depth_mm": 0.0}
    wrong: list[str] = [] if len(alone) == len(tasks) else [f"length {len(alone)}"]
    for row in range(len(alone)):
        item = alone[row]
        wrong += [] if item["task"] == tasks[row] else [f"{row}: task {item['task']!r}"]
        for name, values in given.items():
            _compare(worst, name, values[row], item[name].numpy())
    windows = LeRobotDataset("ours/set", delta_timestamps=WINDOW, **options)
    stop = np.cumsum(LENGTHS)
    start = stop - LENGTHS
    for row in range(len(windows)):
        item, episode = windows[row], int(np.searchsorted(stop, row, side="right"))
        for name, seconds in WINDOW.items():
            wanted = row + np.rint(np.array(seconds) * FPS).astype(int)
            held = wanted.clip(start[episode], stop[episode] - 1)
            _compare(worst, name, given[name][held], item[name].numpy())
            _compare(worst, name, held != wanted, item[f"{name}_is_pad"].numpy())
    part = LeRobotDataset("ours/set", episodes=[1, 3], **options)
    _compare(worst, "action", given["action"][start[1]], part[0]["action"].numpy())
    _compare(worst, "action", given["action"][start[3] + 2], part[LENGTHS[1] + 2]["action"].numpy())
    stats = alone.meta.stats["observation.state"]
    exact = given["observation.state"].astype(np.float64)
    _compare(worst, "stats", np.quantile(exact, 0.99, axis=0).astype(np.float32), stats["q99"].astype(np.float32))
    return {**worst, "wrong": wrong[:10], "items": len(alone)}


def _compare(worst: dict[str, float], name: str, expected: np.ndarray, found: np.ndarray) -> None:
    if name in DEPTHS:
        millimetres = expected[..., 0] * (1000 if DEPTHS[name] == "m" else 1)
        off = float(np.abs(millimetres.clip(10, 10000) - found[0]).max())
        worst["max_abs_diff_depth_mm"] = max(worst["max_abs_diff_depth_mm"], off)
        return
    if name in CAMERAS:
        found = np.moveaxis(found, -3, -1)
        if CAMERAS[name] == "video":
            off = float(np.abs(expected.astype(float) - found).mean() / 255)
            worst["max_abs_diff_images"] = max(worst["max_abs_diff_images"], off)
            return
        found = np.rint(found * 255)
    expected = expected.reshape(found.shape) if expected.size == found.size else expected
    # LeRobot turns float64 into float32.
    off = float(np.abs(expected.astype(np.float32).astype(float) - found.astype(float)).max())
    worst["max_abs_diff"] = max(worst["max_abs_diff"], off)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("write", "check"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    print(json.dumps((write if given.mode == "write" else check)(given.folder.resolve())))


if __name__ == "__main__":
    main()
