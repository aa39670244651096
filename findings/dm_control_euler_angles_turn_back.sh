#!/usr/bin/env bash
# dm_control: Euler angles of some exact poses are those of another rotation, up to half a turn away.
#
# rmat_to_euler and quat_to_euler treat poses in which two of the three angles are about one line on their own. For the
# orders ZYX, XZY and YZX one of the two such poles gets wrong signs: the angles describe a pose half a turn away (an
# open change, google-deepmind/dm_control#555, names these three). In XYX the pole is where nothing turns about y, so
# that a plain turn of 30 degrees about x comes back as one of -30. At the poles of the three a warning names the pole,
# not that the angles are wrong; for XYX nothing is said. A tenth of a degree off the pole all is right, and so are
# XYZ, ZXY and YXZ everywhere.
#
# Who is hit: whoever turns simulator poses into angles for an observation or an action. Exact poles are what models
# start in and what scripted grasps command: a gripper that points straight down has one as its pitch of 90 degrees.
# Way out: quaternions, or scipy's Rotation.from_matrix(m).as_euler(order), for which these poses are right.
#
# Seen with dm_control 1.0.50, SciPy 1.17.1, NumPy 2.4.6, Python 3.11.7:
#
#   dm_control 1.0.50: Euler angles of a pose to a matrix and back, in degrees
#   expected: angles of the same pose, 0 apart
#   XYX    30.0     0.0     0.0  back as  -30.0     0.0     0.0,  60 apart
#   XYX    30.0     0.0    60.0  back as  -90.0     0.0     0.0, 180 apart
#   ZYX    20.0    90.0     0.0  back as    0.0    90.0   -20.0,   0 apart
#   ZYX    20.0   -90.0     0.0  back as    0.0   -90.0  -160.0, 180 apart
#   ZYX    20.0   -89.9     0.0  back as   20.0   -89.9     0.0,   0 apart
#   XZY    20.0   -90.0     0.0  back as    0.0   -90.0  -160.0, 180 apart
#   YZX    20.0    90.0     0.0  back as    0.0    90.0  -160.0, 180 apart
#   XYZ    20.0    90.0     0.0  back as    0.0    90.0    20.0,   0 apart
#   XYZ    20.0   -90.0     0.0  back as    0.0   -90.0   -20.0,   0 apart
#   as described
#
# Ends with 0 if dm_control still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    dm_control==1.0.50 scipy==1.17.1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from dm_control.utils.transformations import euler_to_rmat, rmat_to_euler
from scipy.spatial.transform import Rotation

POSES = (  # order and angles in degrees
    ("XYX", (30, 0, 0)),
    ("XYX", (30, 0, 60)),
    ("ZYX", (20, 90, 0)),
    ("ZYX", (20, -90, 0)),
    ("ZYX", (20, -89.9, 0)),
    ("XZY", (20, -90, 0)),
    ("YZX", (20, 90, 0)),
    ("XYZ", (20, 90, 0)),
    ("XYZ", (20, -90, 0)),
)


def apart(order, angles, others):
    """Angle between two poses, in degrees, by SciPy alone."""
    one, other = (Rotation.from_euler(order, a, degrees=True) for a in (angles, others))
    return float(np.degrees((one * other.inv()).magnitude()))


print(f"dm_control {version('dm_control')}: Euler angles of a pose to a matrix and back, in degrees")
print("expected: angles of the same pose, 0 apart")
found = []
for order, angles in POSES:
    matrix = euler_to_rmat(np.radians(angles), order)
    right = Rotation.from_euler(order, angles, degrees=True).as_matrix()
    assert np.allclose(matrix, right), "the way there is right"
    back = np.degrees(rmat_to_euler(matrix, order))
    found.append(apart(order, angles, back))
    shown = ["  ".join(f"{x + 0.0:6.1f}" for x in np.round(row, 1)) for row in (angles, back)]
    print(f"{order}  {shown[0]}  back as {shown[1]}, {found[-1]:3.0f} apart")
described = [round(x) for x in found] == [60, 180, 0, 180, 0, 180, 180, 0, 0]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
