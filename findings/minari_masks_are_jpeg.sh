#!/usr/bin/env bash
# Minari: a mask of labels that an environment shows comes back from the data set with labels it never had.
#
# DataCollector encodes every uint8 observation of two or three dimensions with bounds 0 and 255 and at least 32 pixels a
# side as JPEG (quality 75) unless it is told jpeg_encoding=False. A segmentation mask, an occupancy map or a tactile
# image is such an observation too: its numbers are labels or forces, JPEG changes them, and nothing is said when they
# are written or read. The same mask cut to 16 x 16 is kept exactly, so that a test on small arrays does not show it.
#
# Who is hit: whoever trains on labels or grey levels out of a Minari data set made with the defaults.
# Way out: DataCollector(env, jpeg_encoding=False), or other bounds than 0 and 255.
#
# Seen with Minari 0.5.4, gymnasium 1.2.2, Python 3.12.1:
#
#   Minari 0.5.4: masks of labels 0, 3, 7, recorded with the defaults and read again
#   expected: labels [0, 3, 7] in every mask, as they were shown
#   64 x 64, defaults            labels [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 12.1 % of the pixels changed
#   16 x 16, defaults            labels [0, 3, 7], 0.0 % of the pixels changed
#   64 x 64, jpeg_encoding=False labels [0, 3, 7], 0.0 % of the pixels changed
#   as described
#
# Ends with 0 if Minari still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    "minari[hdf5,create]==0.5.4" gymnasium==1.2.2 pillow==13.0.0 2>/dev/null
export MINARI_DATASETS_PATH="$place/sets"
cd "$place"
venv/bin/python -W ignore - <<'PY'
import sys

import gymnasium as gym
import minari
import numpy as np


class Masks(gym.Env):
    """Shows the same mask of three labels at every step, large and cut to 16 x 16."""

    observation_space = gym.spaces.Dict(
        {"large": gym.spaces.Box(0, 255, (64, 64), np.uint8), "small": gym.spaces.Box(0, 255, (16, 16), np.uint8)}
    )
    action_space = gym.spaces.Discrete(2)

    def shown(self):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:30, 12:40], mask[35:50, 20:33] = 3, 7
        return {"large": mask, "small": mask[24:40, 12:28].copy()}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.shown(), {}

    def step(self, action):
        self.count += 1
        return self.shown(), 0.0, self.count == 3, False, {}


def recorded(name, **options):
    env = minari.DataCollector(Masks(), **options)
    env.reset(seed=0)
    while not env.step(0)[2]:
        pass
    author = {"author": "nobody", "author_email": "nobody@example.org", "code_permalink": "none", "description": "masks"}
    return env.create_dataset(name, algorithm_name="none", **author)[0].observations


print(f"Minari {minari.__version__}: masks of labels 0, 3, 7, recorded with the defaults and read again")
print("expected: labels [0, 3, 7] in every mask, as they were shown")
default, plain = recorded("masks/default-v0"), recorded("masks/plain-v0", jpeg_encoding=False)
seen = []
for what, read, name in (
    ("64 x 64, defaults", default, "large"),
    ("16 x 16, defaults", default, "small"),
    ("64 x 64, jpeg_encoding=False", plain, "large"),
):
    mask, shown = np.asarray(read[name][0]), Masks().shown()[name]
    changed = float((mask != shown).mean())
    seen.append(changed > 0)
    print(f"{what:28} labels {np.unique(mask).tolist()}, {changed:.1%} of the pixels changed".replace("%", " %"))
described = seen == [True, False, False]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
