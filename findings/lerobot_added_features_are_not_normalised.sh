#!/usr/bin/env bash
# LeRobot: a feature that is added to a data set has no statistics, and a policy takes it raw beside normalised ones.
#
# add_features (and modify_features) logs "Recalculating dataset statistics..." and copies those of the features that
# were there before; none are made for the new one. Training does not miss them: the step that normalises returns a
# feature without statistics unchanged, although MEAN_STD was asked for. So a force of 1000 enters the network as 1000,
# while the same numbers, recorded with the data set, enter as -1.6 to 1.6. Nothing is said at either place.
#
# Who is hit: whoever adds a sensor, a reward or relabelled actions to a recorded data set.
# Way out: lerobot.datasets.recompute_stats(data) after every change of features.
#
# Seen with LeRobot 0.6.1, PyAV 15.1.0, NumPy 2.2.6, Python 3.12.1:
#
#   LeRobot 0.6.1: forces of 950 to 1050 N, as a policy with MEAN_STD gets them
#   expected: the same in each row, some -1.6 to 1.6
#   recorded                  -1.6 to     1.6, statistics in meta/stats.json
#   added by add_features    950.0 to  1050.0, no statistics in meta/stats.json
#   and recompute_stats       -1.6 to     1.6, statistics in meta/stats.json
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
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets import add_features, recompute_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from lerobot.processor.converters import create_transition

FRAMES, KEY = 20, "observation.force"
NUMBERS = {"dtype": "float32", "shape": (1,), "names": None}
force = (1000 + 50 * np.linspace(-1, 1, FRAMES)).astype(np.float32)[:, None]


def recorded(name, forces):
    """A data set of one episode, with the forces in it or without."""
    features = {"action": NUMBERS} | ({KEY: NUMBERS} if forces else {})
    data = LeRobotDataset.create("me/push", fps=10, features=features, root=name)
    for i in range(FRAMES):
        data.add_frame({"action": np.zeros(1, np.float32), "task": "push"} | ({KEY: force[i]} if forces else {}))
    data.save_episode()
    data.finalize()
    return LeRobotDataset("me/push", root=name)


def shown(data):
    """Least and largest force as a policy gets them whose states are normalised by mean and std."""
    step = NormalizerProcessorStep.from_lerobot_dataset(
        data, {KEY: PolicyFeature(FeatureType.STATE, (1,))}, {FeatureType.STATE: NormalizationMode.MEAN_STD}
    )
    given = create_transition(observation={KEY: torch.from_numpy(force)})
    seen = step(given)[TransitionKey.OBSERVATION][KEY]
    return float(seen.min()), float(seen.max())


print(f"LeRobot {version('lerobot')}: forces of 950 to 1050 N, as a policy with MEAN_STD gets them")
print("expected: the same in each row, some -1.6 to 1.6")
before = recorded("plain", False)
added = add_features(before, {KEY: (force, NUMBERS)}, output_dir="added", repo_id="me/added")
found = []
for data in (recorded("whole", True), added):
    kept = KEY in json.loads(Path(data.root, "meta/stats.json").read_text())
    found.append((kept, *shown(data)))
found.append((True, *shown(recompute_stats(added))))
for what, (kept, low, high) in zip(("recorded", "added by add_features", "and recompute_stats"), found):
    print(f"{what:22} {low:7.1f} to {high:7.1f}, {'statistics' if kept else 'no statistics'} in meta/stats.json")
described = [kept for kept, *_ in found] == [True, False, True] and found[1][1] > 900 and found[0][2] < 2 > found[2][2]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
