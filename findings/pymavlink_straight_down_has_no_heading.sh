#!/usr/bin/env bash
# pymavlink: Euler angles of a vehicle that points straight down have another heading, or a pitch of 180 degrees.
#
# QuaternionBase.euler treats attitudes with a vertical nose on their own. Pointing up is right; for pointing down the
# same two differences are taken, and there both are 0: the heading is what rounding has left, 0 or 90 degrees or other.
# Its sibling on Matrix3 has the heading, and a pitch of 180 for -90 and of -180 for 90, wherever rounding takes the
# sine to 1, as Matrix3.from_euler always does. The angles that come out are those of another attitude, and nothing is
# said. A hundredth of a degree away all is right. (ArduPilot/pymavlink#1269, open, mends the pitch; no thread was found
# about the heading. dm_control has faults at exact poles as well, dm_control_euler_angles_turn_back.sh.)
#
# Who is hit: whoever reads gimbals, whose cameras look straight down on a survey, and vehicles that stand on their
# tails. Exact poses are what simulators start in and commands ask for.
# Way out: SciPy's Rotation.from_quat([x, y, z, w]).as_euler("ZYX").
#
# Seen with pymavlink 2.4.50, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   pymavlink 2.4.50: pitch and heading there and back, and degrees between the two attitudes
#   given            by QuaternionBase    off        by Matrix3    off
#        60       40      60.00     40      0     60.00     40      0
#        90       40      90.00     40      0   -180.00     40     90
#        90      130      90.00    130      0   -180.00    130     90
#     -89.9      130     -89.90    130      0    -89.90    130      0
#    -89.99      130     -89.99    130      0    -89.99    130      0
#       -90      130     -90.00      0    130    180.00    130     90
#       -90      -75     -90.00     90    165    180.00    -75     90
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    pymavlink==2.4.50 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from pymavlink.quaternion import QuaternionBase
from pymavlink.rotmat import Matrix3
from scipy.spatial.transform import Rotation


def rotation(euler):
    """Roll, pitch and yaw, about moving axes from yaw on."""
    roll, pitch, yaw = euler
    return Rotation.from_euler("ZYX", [yaw, pitch, roll])


def by_quaternion(euler):
    x, y, z, w = rotation(euler).as_quat()
    return QuaternionBase([w, x, y, z]).euler


def by_matrix(euler):
    matrix = Matrix3()
    matrix.from_euler(*euler)
    return matrix.to_euler()


print(f"pymavlink {version('pymavlink')}: pitch and heading there and back, and degrees between the two attitudes")
print(f"{'given':16} {'by QuaternionBase':>17} {'off':>6} {'by Matrix3':>17} {'off':>6}")
found = []
for pitch, heading in ((60, 40), (90, 40), (90, 130), (-89.9, 130), (-89.99, 130), (-90, 130), (-90, -75)):
    given = np.radians([0, pitch, heading])
    row, off = "", []
    for way in (by_quaternion, by_matrix):
        angles = way(given)
        off.append(np.degrees((rotation(given).inv() * rotation(angles)).magnitude()))
        row += f"{np.degrees(angles[1]):10.2f} {np.degrees(angles[2]):6.0f} {off[-1]:6.0f}"
    found.append([value > 1 for value in off])
    print(f"{pitch:7} {heading:8} {row}")
described = found == [
    [False, False],
    [False, True],
    [False, True],
    [False, False],
    [False, False],
    [True, True],
    [True, True],
]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
