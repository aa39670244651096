#!/usr/bin/env bash
# LeRobot: depth in any type but float32 and uint16 is taken frame by frame, and the episode is lost when it is saved.
#
# The guide treats "integer arrays" as millimetres and "floating arrays" as metres, and add_frame, which refuses a
# vector of the wrong type at once, takes depth in float64, float16 and int32. The thread that writes pictures knows
# only two types, logs an error for each frame and goes on. save_episode then opens the first file that was never
# written: FileNotFoundError, with no word of types. The episode is gone, actions and all, and the same data set takes
# no further frame: add_frame raises KeyError 'size'. With streaming_encoding=True the same frames are recorded right.
#
# Who is hit: whoever records depth that went through one numpy operation, as np.full, a division or a unit conversion
# yields float64. The loss shows only after the demonstration.
# Way out: depth.astype(np.float32) for metres, np.uint16 for millimetres, before add_frame.
#
# Seen with LeRobot 0.6.1, PyAV 15.1.0, NumPy 2.2.6, Python 3.12.1:
#
#   LeRobot 0.6.1: 5 frames of depth, each taken by add_frame without a word
#   expected: 5 frames of 2.00 m, or a refusal by the first add_frame
#   default            float32 5 frames of 2.00 m
#   default            uint16  5 frames of 2.00 m
#   default            float64 0 frames, FileNotFoundError, then KeyError
#   default            float16 0 frames, FileNotFoundError, then KeyError
#   default            int32   0 frames, FileNotFoundError, then KeyError
#   streaming_encoding float32 5 frames of 2.00 m
#   streaming_encoding uint16  5 frames of 2.00 m
#   streaming_encoding float64 5 frames of 2.00 m
#   streaming_encoding float16 5 frames of 2.00 m
#   streaming_encoding int32   5 frames of 2.00 m
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
import os
import sys
from importlib.metadata import version

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FRAMES, SHAPE = 5, (16, 24, 1)
FEATURES = {
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "depth": {
        "dtype": "video", "shape": SHAPE, "names": ["height", "width", "channels"], "info": {"is_depth_map": True},
    },
}


def recorded(kind, streaming):
    """What became of an episode of a wall two metres away, and of the frame after it."""
    name = f"{np.dtype(kind)}-{streaming}"
    data = LeRobotDataset.create("me/depth", fps=10, features=FEATURES, root=name, streaming_encoding=streaming)
    depth = np.full(SHAPE, 2 if np.issubdtype(kind, np.floating) else 2000, kind)
    frame = {"action": np.zeros(2, np.float32), "depth": depth, "task": "look"}
    told = []
    for _ in range(FRAMES):
        data.add_frame(dict(frame))
    for step in (data.save_episode, lambda: data.add_frame(dict(frame))):
        try:
            step()
        except (OSError, KeyError) as error:
            told.append(type(error).__name__)
    if told:
        return f"0 frames, {', then '.join(told)}" if not os.path.exists(f"{name}/data") else "kept"
    data.clear_episode_buffer()
    data.finalize()
    read = LeRobotDataset("me/depth", root=name)
    return f"{len(read)} frames of {float(read[0]['depth'].mean()) / 1000:.2f} m"


print(f"LeRobot {version('lerobot')}: {FRAMES} frames of depth, each taken by add_frame without a word")
print(f"expected: {FRAMES} frames of 2.00 m, or a refusal by the first add_frame")
found = []
for streaming in (False, True):
    for kind in (np.float32, np.uint16, np.float64, np.float16, np.int32):
        found.append(recorded(kind, streaming))
        how = "streaming_encoding" if streaming else "default"
        print(f"{how:18} {np.dtype(kind)!s:7} {found[-1]}")
lost = ["0 frames" in line for line in found]
described = lost == [False] * 2 + [True] * 3 + [False] * 5
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
