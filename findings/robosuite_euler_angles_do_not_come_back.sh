#!/usr/bin/env bash
# robosuite: euler2mat and mat2euler, of one module and both of "(r,p,y)", are not each other's inverse.
#
# mat2euler reads angles about fixed axes, x first (sxyz, its default). euler2mat takes its three angles about the axes
# that move along, x first, which is the fixed order backwards. Where only one angle is not zero the two agree, so that
# a quick test passes; otherwise a rotation is another one after going there and back, by tens of degrees for angles of
# a robot's wrist. Nothing is said, and both docstrings promise the same triple. robosuite falls into it itself:
# LinearInterpolator(ori_interpolate="euler") goes through both, and between two equal orientations it gives a third.
#
# Who is hit: whoever stores, clips, interpolates or learns orientations of robosuite as Euler angles.
# Way out: mat2euler(m, axes="rxyz") is the inverse of euler2mat; or quaternions throughout.
#
# Seen with robosuite 1.5.2, MuJoCo 3.3.0, NumPy 1.26.4, Python 3.11.7:
#
#   robosuite 1.5.2: Euler angles to a matrix and back; expected: 0 degrees apart in every column
#   angles                mat2euler(euler2mat)     apart  interpolated  with axes='rxyz'
#    0.70   0.00   0.00    0.70   0.00   0.00        0.0           0.0               0.0
#    0.00   0.70   0.00    0.00   0.70   0.00        0.0           0.0               0.0
#    0.00   0.00   0.70    0.00   0.00   0.70        0.0           0.0               0.0
#    0.10   0.20   0.30    0.16   0.16   0.32        4.3           4.3               0.0
#    0.50  -0.40   1.20   -0.18  -0.61   1.15       39.3          39.3               0.0
#    3.00   0.10   1.50   -3.05  -0.15  -1.50      172.3         172.3               0.0
#   as described
#
# Ends with 0 if robosuite still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    robosuite==1.5.2 mujoco==3.3.0 numpy==1.26.4 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from robosuite.utils.traj_utils import LinearInterpolator
from robosuite.utils.transform_utils import euler2mat, mat2euler


def apart(a, b):
    """Angle between two rotations, in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def held(angles):
    """Where an interpolation between two equal orientations begins."""
    path = LinearInterpolator(ndim=3, controller_freq=100, policy_freq=20, ori_interpolate="euler")
    path.start, path.goal = angles, angles
    return path.get_interpolated_goal()


print(f"robosuite {version('robosuite')}: Euler angles to a matrix and back; expected: 0 degrees apart in every column")
print(f"{'angles':21} {'mat2euler(euler2mat)':24} apart  interpolated  with axes='rxyz'")
found = []
for angles in ((0.7, 0, 0), (0, 0.7, 0), (0, 0, 0.7), (0.1, 0.2, 0.3), (0.5, -0.4, 1.2), (3.0, 0.1, 1.5)):
    angles = np.array(angles, float)
    matrix = euler2mat(angles)
    back, right = mat2euler(matrix), mat2euler(matrix, axes="rxyz")
    error = [apart(matrix, euler2mat(other)) for other in (back, held(angles), right)]
    shown = ["  ".join(f"{x + 0.0:5.2f}" for x in np.round(row, 2)) for row in (angles, back)]
    print(f"{shown[0]:21} {shown[1]:24} {error[0]:5.1f}  {error[1]:12.1f}  {error[2]:16.1f}")
    found.append([e > 1 for e in error])
described = found == [[False] * 3] * 3 + [[True, True, False]] * 3
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
