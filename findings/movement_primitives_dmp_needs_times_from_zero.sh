#!/usr/bin/env bash
# movement_primitives: a DMP that imitates a demonstration whose clock is not at 0 runs away, or draws another path.
#
# imitate(T, Y) takes the "time for each step" of a demonstration, and goes by T[0] and T[-1] for duration, phase and
# forces. The centres of the basis functions, but for the first, lie at times from 0 on all the same: the weights are
# learned with others than those they are multiplied with when the DMP runs, which is from 0. The same demonstration a
# second later takes the hand tens of kilometres away; five seconds later it looks sound, and is not what was shown. So
# it is for DMP, CartesianDMP and DMPWithFinalVelocity. Start and goal are right, nothing is said, and no thread was
# found that speaks of it. That times begin at 0 is said of ProMP alone, in private methods.
#
# Who is hit: whoever cuts demonstrations out of a recording and keeps its time stamps.
# Way out: imitate(T - T[0], Y).
#
# Seen with movement_primitives 0.9.1, pytransform3d 3.17.0, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   movement_primitives 0.9.1: one demonstration of a second, by a clock that begins at T[0]
#   expected: every line as the first
#     T[0]             DMP   DMPWithFinalVelocity           CartesianDMP
#      0.0          0.8 cm                 0.3 cm         0.8 cm    0 deg
#      0.1        338.8 cm               331.0 cm       338.8 cm  179 deg
#      1.0    8878628.8 cm           8961080.9 cm   8878628.8 cm  179 deg
#      5.0         20.5 cm                 9.6 cm        20.5 cm   42 deg
#     10.0         20.5 cm                 9.6 cm        20.5 cm   42 deg
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    movement_primitives==0.9.1 pytransform3d==3.17.0 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from movement_primitives.dmp import DMP, CartesianDMP, DMPWithFinalVelocity
from scipy.spatial.transform import Rotation

STEPS = 101
share = np.linspace(0, 1, STEPS)
smooth = share**3 * (10 - 15 * share + 6 * share**2)  # at rest at both ends
place = np.c_[30 * smooth, 10 * np.sin(np.pi * smooth), 5 * np.sin(2 * np.pi * smooth)]  # centimetres
turn = Rotation.from_rotvec(np.c_[0.5 * smooth, 0.4 * np.sin(np.pi * smooth), smooth]).as_quat(scalar_first=True)


def apart(begin, kind):
    """How far a DMP is from its demonstration at most, in centimetres, and degrees if it has an orientation."""
    times = begin + share
    if kind is CartesianDMP:
        dmp, shown = kind(execution_time=1.0, dt=0.01, n_weights_per_dim=20), np.hstack([place, turn])
    else:
        dmp, shown = kind(3, execution_time=1.0, dt=0.01, n_weights_per_dim=20), place
    dmp.imitate(times, shown)
    run = dmp.open_loop()[1][:STEPS]
    found = [float(np.linalg.norm(run[:, :3] - place, axis=1).max())]
    if kind is CartesianDMP:
        ways = [Rotation.from_quat(q[:, 3:], scalar_first=True) for q in (run, shown)]
        found.append(float(np.degrees((ways[0].inv() * ways[1]).magnitude()).max()))
    return found


name = "movement_primitives"
print(f"{name} {version(name)}: one demonstration of a second, by a clock that begins at T[0]")
print("expected: every line as the first")
print("  T[0]             DMP   DMPWithFinalVelocity           CartesianDMP")
table = {}
for begin in (0.0, 0.1, 1.0, 5.0, 10.0):
    table[begin] = row = apart(begin, DMP) + apart(begin, DMPWithFinalVelocity) + apart(begin, CartesianDMP)
    print(f"{begin:6.1f} {row[0]:12.1f} cm {row[1]:19.1f} cm {row[2]:11.1f} cm {row[3]:4.0f} deg")
described = max(table[0.0]) < 5 and all(min(row[:3]) > 3 * max(table[0.0][:3]) for t, row in table.items() if t >= 1)
described &= min(table[1.0][:3]) > 1000
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
