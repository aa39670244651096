#!/usr/bin/env bash
# gymnasium-robotics: rotations of more than a quarter turn come back from their smooth form half a turn away.
#
# quat2point_quat writes a rotation as the sine and cosine of its angle beside its axis, which has no jumps and so suits
# a network; point_quat2quat is the way back. It takes the arctangent of sine by cosine, whose result is within a
# quarter turn, and forgets the sign of the cosine, which its neighbour point_euler2euler looks at. Every rotation of
# more than a quarter turn comes back as one that is half a turn from it. Besides, quat2axisangle takes the arcsine of
# the length of the vector part: a half turn, as of a hand that points down, has the length 1, which rounding makes
# larger now and then, and its angle is NaN. The first says nothing, the second warns of an arcsine.
#
# Who is hit: whoever learns or stores rotations in these forms; the package's own environments use neither way back.
# Way out: arctan2(sine, cosine) with the same axis; SciPy's as_rotvec for the axis and angle.
#
# Seen with gymnasium-robotics 1.4.2, gymnasium 1.4.0, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   gymnasium-robotics 1.4.2: 500 rotations by each angle, there and back, in degrees
#   expected: 0 apart, and no NaN
#   angle  30  point_quat2quat(quat2point_quat) is   0 apart
#   angle  60  point_quat2quat(quat2point_quat) is   0 apart
#   angle  89  point_quat2quat(quat2point_quat) is   0 apart
#   angle  91  point_quat2quat(quat2point_quat) is 180 apart
#   angle 120  point_quat2quat(quat2point_quat) is 180 apart
#   angle 150  point_quat2quat(quat2point_quat) is 180 apart
#   angle 179  point_quat2quat(quat2point_quat) is 180 apart
#   angle 180  quat2axisangle gives NaN for 60 of 1000
#   as described
#
# Ends with 0 if they still behave so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    gymnasium-robotics==1.4.2 gymnasium==1.4.0 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from gymnasium_robotics.utils.rotations import point_quat2quat, quat2axisangle, quat2point_quat
from scipy.spatial.transform import Rotation

rng = np.random.default_rng(0)


def turns(angle, number=500):
    """Rotations by an angle in degrees about random axes, as quaternions with w first."""
    axes = rng.normal(size=(number, 3))
    axes *= np.radians(angle) / np.linalg.norm(axes, axis=1, keepdims=True)
    return Rotation.from_rotvec(axes).as_quat(scalar_first=True)


def apart(quats, others):
    """The largest angle between pairs of rotations, in degrees, by SciPy alone."""
    one, other = (Rotation.from_quat(q, scalar_first=True) for q in (quats, others))
    return float(np.degrees((one * other.inv()).magnitude()).max())


print(f"gymnasium-robotics {version('gymnasium-robotics')}: 500 rotations by each angle, there and back, in degrees")
print("expected: 0 apart, and no NaN")
found = []
for angle in (30, 60, 89, 91, 120, 150, 179):
    quats = turns(angle)
    found.append(round(apart(quats, point_quat2quat(quat2point_quat(quats)))))
    print(f"angle {angle:3}  point_quat2quat(quat2point_quat) is {found[-1]:3} apart")
down = turns(180, 1000)
none = sum(bool(np.isnan(quat2axisangle(quat)[1])) for quat in down)
print(f"angle 180  quat2axisangle gives NaN for {none} of 1000")
described = found == [0, 0, 0, 180, 180, 180, 180] and none > 20
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
