#!/usr/bin/env bash
# Meta-World: in window-close the observation that reset returns shows the handle 0.2 m from where it is.
#
# After any other reset an action of zeros leaves the object where reset said that it was. In window-close-v3 the
# window has been opened by then, but positions were not computed again before the observation was read: numbers 4 to 6
# hold the handle of the closed window, and the next observation, one step of doing nothing later, has it 0.2 m away.
# Every episode of every seed begins so, and nothing is said.
#
# Who is hit: whoever plans from, records or evaluates on the first observation. In demonstrations the first step then
# shows a window that is closed already, and a policy that commits itself to a first plan reaches for the wrong place.
# Way out: read the state after mujoco.mj_forward on the environment's model and data, or leave the first step out.
#
# Seen with Meta-World 3.1.1, MuJoCo 3.3.0, gymnasium 1.4.0, Python 3.11.7:
#
#   Meta-World 3.1.1: metres between the object of the first observation and that after an action
#   of zeros; expected: 0.00 in every task
#   drawer-open-v3   0.00 0.00 0.00 0.00 0.00
#   window-open-v3   0.00 0.00 0.00 0.00 0.00
#   window-close-v3  0.20 0.20 0.20 0.20 0.20
#   as described
#
# Ends with 0 if Meta-World still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    metaworld==3.1.1 mujoco==3.3.0 gymnasium==1.4.0 numpy==2.4.6 packaging 2>/dev/null
cd "$place"
venv/bin/python -W ignore - <<'PY'
import sys
from importlib.metadata import version

import gymnasium as gym
import metaworld  # noqa: F401
import numpy as np

print(f"Meta-World {version('metaworld')}: metres between the object of the first observation and that after an action")
print("of zeros; expected: 0.00 in every task")
found = {}
for name in ("drawer-open-v3", "window-open-v3", "window-close-v3"):
    env = gym.make("Meta-World/MT1", env_name=name, seed=7)
    found[name] = []
    for _ in range(5):
        first, _ = env.reset()
        second, *_ = env.step(np.zeros(4, np.float32))
        found[name].append(float(np.linalg.norm(first[4:7] - second[4:7])))
    print(f"{name:16}", *(f"{metres:.2f}" for metres in found[name]))
others = found["drawer-open-v3"] + found["window-open-v3"]
same = max(others) < 0.01 and all(0.15 < metres < 0.25 for metres in found["window-close-v3"])
print("as described" if same else "not as described")
sys.exit(not same)
PY
