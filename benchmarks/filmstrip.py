"""A picture of scripted experts at work: a row of frames a task, from its first moment to its success.

python benchmarks/filmstrip.py aloha docs/pictures/aloha.webp [--camera top] [--frames 8] [--size 224] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from nextmove import sim

GAP = 2
"""White pixels around a frame."""


def frames(task: sim.Task, camera: str, count: int, size: int, seed: int) -> np.ndarray:
    """(size, count * size, 3) and white gaps: what a camera sees of a demonstration, evenly until its success."""
    cameras = task.sized([f"{camera}={size}x{size}"])
    episode = sim.demonstrate(task, 0, seed=seed, cameras=cameras)
    end = int(np.flatnonzero(episode.columns["next.success"])[0])
    chosen = np.linspace(0, end, count).round().astype(int)
    shown = episode.columns[next(iter(cameras))][chosen]
    return np.concatenate(list(np.pad(shown, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a task or a suite")
    parser.add_argument("out", type=Path)
    parser.add_argument("--camera", default="top")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = [frames(task, args.camera, args.frames, args.size, args.seed) for task in sim.find(args.task)]
    Image.fromarray(np.concatenate(rows)).save(args.out, quality=80)


if __name__ == "__main__":
    main()
