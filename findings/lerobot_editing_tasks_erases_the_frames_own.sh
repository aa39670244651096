#!/usr/bin/env bash
# LeRobot: editing one task gives all frames of every episode a single task, and which one is luck.
#
# Each frame of an episode has its own task: add_frame takes it frame by frame, and an episode's metadata has a list of
# all. modify_tasks reads the first of that list alone and writes it, or what replaces it, into every frame, in place.
# task_replacements, which "replace existing task strings wherever they appear", may so erase the very task that was to
# be renamed. Episodes that episode_tasks does not name have the "original task", says the docstring, and lose the rest.
# The list is made by way of a set of strings, so that which one is first, and survives, changes from one recording
# process to the next. Nothing is said.
#
# Who is hit: whoever records sub-tasks, or instructions that change within an episode, and edits any of them later. The
# frames' own are gone, for the files are overwritten, and a policy learns to reach under the word grasp.
# Way out: a copy beforehand, and new names in meta/tasks.parquet, whose numbers the frames have, and in the column
# "tasks" of meta/episodes.
#
# Seen with LeRobot 0.6.1, NumPy 2.2.6, Python 3.12.1:
#
#   expected: as recorded but for the word reach; as recorded but for episode 0
#   LeRobot 0.6.1: tasks of the frames of two episodes, PYTHONHASHSEED=0
#   as recorded   reach reach reach grasp grasp   reach reach reach grasp grasp
#   rename reach  grasp grasp grasp grasp grasp   grasp grasp grasp grasp grasp
#   episode 0     wait wait wait wait wait        grasp grasp grasp grasp grasp
#   LeRobot 0.6.1: tasks of the frames of two episodes, PYTHONHASHSEED=3
#   as recorded   reach reach reach grasp grasp   reach reach reach grasp grasp
#   rename reach  touch touch touch touch touch   touch touch touch touch touch
#   episode 0     wait wait wait wait wait        reach reach reach reach reach
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
export HF_HUB_OFFLINE=1 HF_HOME="$place/hub" HF_DATASETS_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1
cd "$place"
cat >tasks.py <<'PY'
import os
import sys
from importlib.metadata import version

import numpy as np
from lerobot.datasets.dataset_tools import modify_tasks
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FEATURES = {"action": {"dtype": "float32", "shape": (2,), "names": None}}
SEED = os.environ["PYTHONHASHSEED"]


def recorded(name):
    """Two episodes, in each of which the arm reaches for three frames and grasps for two."""
    data = LeRobotDataset.create("me/cup", fps=10, features=FEATURES, root=f"{name}-{SEED}")
    for _ in range(2):
        for task in ["reach"] * 3 + ["grasp"] * 2:
            data.add_frame({"action": np.zeros(2, np.float32), "task": task})
        data.save_episode()
    data.finalize()
    return LeRobotDataset("me/cup", root=f"{name}-{SEED}")


def tasks(name):
    """The task of each frame, one row for an episode, read again from the disk."""
    data = LeRobotDataset("me/cup", root=f"{name}-{SEED}")
    told = [data[i]["task"] for i in range(10)]
    return [" ".join(told[:5]), " ".join(told[5:])]


print(f"LeRobot {version('lerobot')}: tasks of the frames of two episodes, PYTHONHASHSEED={SEED}")
found = []
for name, changes in (
    ("as recorded", None),
    ("rename reach", {"task_replacements": {"reach": "touch"}}),
    ("episode 0", {"episode_tasks": {0: "wait"}}),
):
    data = recorded(name)
    if changes:
        modify_tasks(data, **changes)
    found.append(tasks(name))
    print(f"{name:13}", "  ".join(f"{row:30}" for row in found[-1]).rstrip())
kept = {"0": ("grasp", "grasp"), "3": ("reach", "touch")}[SEED]  # the first of the set, and what it is renamed to
wanted = [["reach reach reach grasp grasp"] * 2, [" ".join([kept[1]] * 5)] * 2]
wanted.append(["wait wait wait wait wait", " ".join([kept[0]] * 5)])
sys.exit(found != wanted)
PY
echo "expected: as recorded but for the word reach; as recorded but for episode 0"
for seed in 0 3; do
    PYTHONHASHSEED=$seed venv/bin/python -W ignore tasks.py 2>said ||
        { code=$?; tail -n 3 said >&2; echo "behaves otherwise now"; exit "$code"; }
done
echo "as described"
