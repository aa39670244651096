"""LeRobot's own depth cameras as a golden case: a data set, what went in, what comes back, and codes of single depths.

    python benchmarks/make_lerobot_depth.py tests/golden/lerobot_depth     # with LeRobot 0.6.1 (Python 3.12)

`given/NAME` (N, H, W, 1) are the frames as recorded, float32 metres of `near` and uint16 millimetres of `far`;
`read/NAME` (N, H, W, 1) float32 the millimetres that LeRobot reads. `codes/UNIT/in` are depths that a sensor may give,
those that it did not measure among them, and `codes/UNIT/out` their 12-bit codes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

LENGTHS, FPS, HEIGHT, WIDTH = (4, 3), 10, 16, 24
UNITS = {"near": "m", "far": "mm"}


def frames(rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """One episode: a slope with a step in it, and pixels that were not measured."""
    y, x, t = np.mgrid[0:HEIGHT, 0:WIDTH, 0:length]
    metres = np.moveaxis(0.3 + x / 6 + y / 5 * (x > 9) + 0.1 * t + rng.uniform(0, 0.01, x.shape), 2, 0)[..., None]
    metres[:, 0, :3, 0] = (0, 0.004, 11)
    return {"near": metres.astype(np.float32), "far": np.rint(metres * 1000).astype(np.uint16)}


def camera() -> dict[str, object]:
    """The entry of a depth camera."""
    names = ["height", "width", "channels"]
    return {"dtype": "video", "shape": (HEIGHT, WIDTH, 1), "names": names, "info": {"is_depth_map": True}}


def codes() -> dict[str, np.ndarray]:
    """Single depths and their codes."""
    from lerobot.datasets.depth_utils import quantize_depth

    metres = np.concatenate([np.geomspace(0.005, 12, 500), [0, -1, -9, np.nan, np.inf, -np.inf]]).astype(np.float32)
    millimetres = np.r_[0:40, 40:12000:29, 65535].astype(np.uint16)
    out = {}
    for unit, depths in (("m", metres), ("mm", millimetres)):
        found = quantize_depth(depths[:, None], video_backend=None)
        out |= {f"codes/{unit}/in": depths, f"codes/{unit}/out": found[:, 0]}
    return out


def main() -> None:
    """The command line."""
    from lerobot.datasets import LeRobotDataset
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    features = {"action": {"dtype": "float32", "shape": (2,), "names": None}, **{name: camera() for name in UNITS}}
    dataset = LeRobotDataset.create("golden/depth", fps=FPS, features=features, root=folder / "dataset")
    rng, given = np.random.default_rng(0), []
    for length in LENGTHS:
        given.append(frames(rng, length))
        for step in range(length):
            shown = {name: values[step] for name, values in given[-1].items()}
            dataset.add_frame({"action": rng.normal(size=2).astype(np.float32), **shown, "task": "reach"})
        dataset.save_episode()
    dataset.finalize()
    read = LeRobotDataset("golden/depth", root=folder / "dataset", video_backend="pyav")
    out = codes()
    for name in UNITS:
        out[f"given/{name}"] = np.ascontiguousarray(np.concatenate([episode[name] for episode in given]))
        out[f"read/{name}"] = np.stack([read[row][name].numpy()[0, ..., None] for row in range(len(read))])
    save_file(out, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
