#!/usr/bin/env bash
# LeRobot: mean and std of a camera in meta/stats.json are not those of its pictures; a std comes out as 0 or six times
# too large.
#
# They are made of sums over all pixels of a hundred or more frames of an episode, added in single precision one pixel
# after the other, and the std is the difference of two large means, E[x^2] - E[x]^2. After a million light pixels each
# further square is rounded to a multiple of 4096, always the same way where a colour repeats, as on a table, a wall or
# anything that a simulator draws (grey noise of std 2.0 around 220 gets 17.2). Minimum, maximum and quantiles are
# right, so that the file looks sound; which channel comes out as zero depends on size and length of the episode. Depth
# has one channel and is right.
#
# Who is hit: whoever normalises pictures by the data set's own statistics, --dataset.use_imagenet_stats=false, or reads
# them from the file. A channel with std 0 is divided by 1e-8.
# Way out: compute a camera's statistics in float64, x.astype(np.float64).std(axis=...), and write them into the file.
#
# Seen with LeRobot 0.6.1, NumPy 2.2.6, Python 3.12.1:
#
#   LeRobot 0.6.1: a camera that shows one picture for 100 frames, in red, green, blue of 255
#   expected: mean and std of that picture, to a tenth
#    96 x  96 the picture  mean 181.1  164.4  164.4   std  53.4   44.0   12.6
#    96 x  96 stats.json   mean 179.9  162.4  164.3   std  60.3   53.4    0.0
#   128 x 128 the picture  mean 180.8  164.2  164.5   std  53.8   44.3   12.7
#   128 x 128 stats.json   mean 177.1  161.1  164.1   std  68.8   56.6    0.0
#   256 x 256 the picture  mean 181.3  164.6  164.4   std  53.2   43.8   12.5
#   256 x 256 stats.json   mean 176.4  169.6  149.5   std  46.7   20.0   73.8
#   480 x 640 the picture  mean 181.1  164.5  164.4   std  53.4   44.0   12.6
#   480 x 640 stats.json   mean 177.1  163.2  163.9   std  69.9   51.0    0.0
#   as described
#
# Ends with 0 if LeRobot still behaves so, with 1 if not. Takes a Python of 3.12 or later: PYTHON=python3.12 bash ...
# It needs 6 GB of disk for a while, for LeRobot brings PyTorch for CUDA along; no weights and no hub.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    "lerobot[dataset]==0.6.1" av==15.1.0 numpy==2.2.6 2>/dev/null
export HF_HUB_OFFLINE=1 HF_HOME="$place/hub" HF_DATASETS_DISABLE_PROGRESS_BARS=1
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FRAMES, KEY = 100, "observation.images.table"


def table(height, width):
    """A blue block on a light table, as a simulator draws it."""
    picture = np.full((height, width, 3), (200, 180, 160), np.uint8)
    picture[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = (30, 40, 200)
    return picture


def recorded(picture):
    """Mean and std, and min and max, that LeRobot writes for an episode of this picture, of 255."""
    name = "x".join(map(str, picture.shape))
    features = {
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        KEY: {"dtype": "image", "shape": picture.shape, "names": ["height", "width", "channels"]},
    }
    data = LeRobotDataset.create("me/table", fps=10, features=features, root=name, use_videos=False)
    for _ in range(FRAMES):
        data.add_frame({"action": np.zeros(2, np.float32), KEY: picture, "task": "look"})
    data.save_episode()
    data.finalize()
    stats = json.loads(Path(name, "meta/stats.json").read_text())[KEY]
    return [255 * np.ravel(stats[key]) for key in ("mean", "std", "min", "max")]


print(f"LeRobot {version('lerobot')}: a camera that shows one picture for {FRAMES} frames, in red, green, blue of 255")
print("expected: mean and std of that picture, to a tenth")
wrong = []
for height, width in ((96, 96), (128, 128), (256, 256), (480, 640)):
    picture = table(height, width)
    pixels = picture.reshape(-1, 3).astype(np.float64)
    mean, std, least, most = recorded(picture)
    for what, numbers in (
        ("the picture", (pixels.mean(0), pixels.std(0))),
        ("stats.json", (mean, std)),
    ):
        lines = ("  ".join(f"{x:5.1f}" for x in row) for row in numbers)
        print(f"{height:3} x {width:3} {what:12} mean {next(lines)}   std {next(lines)}")
    assert np.allclose(least, pixels.min(0), atol=0.01) and np.allclose(most, pixels.max(0), atol=0.01)
    wrong.append(float(np.abs(std - pixels.std(0)).max()))
described = min(wrong) > 5
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
