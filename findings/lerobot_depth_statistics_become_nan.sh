#!/usr/bin/env bash
# LeRobot: one depth pixel without a measurement makes every statistic of its camera NaN, for the whole data set.
#
# Depth cameras give metres as float32 and mark a pixel without a return with NaN. add_frame and save_episode take such
# a frame as they take any other. In the video the pixel becomes the least depth, 1 cm in front of the lens, and a
# reader cannot tell it from a measurement. In meta/stats.json min, max, mean, std and all quantiles of that camera are
# NaN, not of that frame alone but of all episodes, since every merge carries the NaN along. Nothing is said at either
# place. The guide says that values below depth_min are clipped; of pixels without a value it says nothing.
#
# Who is hit: whoever records depth in metres. Normalised by those statistics every pixel of every frame is NaN, while
# the frames themselves look whole.
# Way out: replace NaN before add_frame, by a depth that means "nothing" to the reader, and leave that pixel out of
# one's own statistics.
#
# Seen with LeRobot 0.6.1, PyAV 15.1.0, NumPy 2.2.6, Python 3.12.1:
#
#   LeRobot 0.6.1: 24 depth frames in metres, one with a pixel without a return
#   expected: statistics of the other 9215 pixels, and the pixel told from a measurement, or a word
#                           min   max  mean   std   q01   q99   the pixel and its neighbour, read in mm
#   every pixel measured   1.00  1.70  1.35  0.23  1.00  1.70   1400 1400
#   one pixel NaN           nan   nan   nan   nan   nan   nan   10 1400
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

EPISODES, FRAMES, SHAPE = 3, 8, (16, 24, 1)
FEATURES = {
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "depth": {
        "dtype": "video", "shape": SHAPE, "names": ["height", "width", "channels"], "info": {"is_depth_map": True},
    },
}
SHOWN = ("min", "max", "mean", "std", "q01", "q99")


def recorded(name, pixel):
    """A wall that comes nearer, 1.7 m to 1.0 m, with one pixel of one frame of episode 1 as given."""
    data = LeRobotDataset.create("me/depth", fps=10, features=FEATURES, root=name)
    for episode in range(EPISODES):
        for i in range(FRAMES):
            depth = np.full(SHAPE, 1.7 - 0.1 * i, np.float32)
            if (episode, i) == (1, 3) and pixel is not None:
                depth[5, 7] = pixel
            data.add_frame({"action": np.zeros(2, np.float32), "depth": depth, "task": "look"})
        data.save_episode()
    data.finalize()
    metres = json.loads(Path(name, "meta/stats.json").read_text())["depth"]
    metres = {key: float(np.ravel(metres[key])[0]) for key in SHOWN}
    return metres, LeRobotDataset("me/depth", root=name)[FRAMES + 3]["depth"][0]


print(f"LeRobot {version('lerobot')}: {EPISODES * FRAMES} depth frames in metres, one with a pixel without a return")
print("expected: statistics of the other 9215 pixels, and the pixel told from a measurement, or a word")
print(" " * 21, *(f"{key:>5}" for key in SHOWN), "  the pixel and its neighbour, read in mm")
found = []
for what, pixel in (("every pixel measured", None), ("one pixel NaN", np.nan)):
    metres, frame = recorded(what.replace(" ", "-"), pixel)
    one, beside = float(frame[5, 7]), float(frame[5, 8])
    print(f"{what:21}", *(f"{metres[key]:5.2f}" for key in SHOWN), f"  {one:.0f} {beside:.0f}")
    found.append((np.isnan(list(metres.values())).tolist(), round(one) == 10))
described = found == [([False] * len(SHOWN), False), ([True] * len(SHOWN), True)]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
