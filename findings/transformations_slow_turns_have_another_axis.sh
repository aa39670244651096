#!/usr/bin/env bash
# transformations, transforms3d: a small rotation as axis and angle is another one, across its axis, lost or far larger.
#
# rotation_from_matrix and mat2axangle take the eigenvector of the eigenvalue 1 for the axis, and if several pass for 1,
# the last of them. The other two are cos a +- i sin a: transformations looks at the real part alone, within 1e-8, so
# that every rotation below 1.4e-4 rad passes; transforms3d lets all below 1e-5 rad pass. The "axis" may then lie across
# the real one, and the angle, which is divided by one of its components, is anything from nothing to a quarter turn.
# Nothing is said. A user saw it in ROS's copy of transformations (ros/geometry#168, closed without a change there). It
# depends on the axis: about z alone, the usual test, both are right.
#
# Who is hit: whoever makes angular velocities, or actions, of poses that are close in time. 1.4e-4 rad a step are 8
# degrees a second in a log of 1 kHz, as the controllers of arms write it; at 100 Hz the same motion is right.
# Way out: SciPy's Rotation.from_matrix(m).as_rotvec(), or the quaternion's vector part.
#
# Seen with transformations 2026.1.18, transforms3d 0.4.2, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   transformations 2026.1.18, transforms3d 0.4.2: a hand turns
#   expected: 100 % of the steps right, the largest speed the one it turns with
#   axis            deg/s    Hz   transformations         transforms3d            SciPy
#   (0, 0, 1)         2.0   100   100%, up to      2.00  100%, up to      2.00  100%, up to      2.00
#   (0, 0, 1)         2.0  1000   100%, up to      2.00  100%, up to      2.00  100%, up to      2.00
#   (0, 0, 1)         0.2  1000   100%, up to      0.20  100%, up to      0.20  100%, up to      0.20
#   (1, 0.2, 0.3)     2.0   100   100%, up to      2.00  100%, up to      2.00  100%, up to      2.00
#   (1, 0.2, 0.3)     2.0  1000     0%, up to     10.44  100%, up to      2.00  100%, up to      2.00
#   (1, 0.2, 0.3)     0.2  1000     0%, up to      1.04    0%, up to      1.04  100%, up to      0.20
#   (1, 0, 0.1)       2.0   100   100%, up to      2.00  100%, up to      2.00  100%, up to      2.00
#   (1, 0, 0.1)       2.0  1000     0%, up to      0.00  100%, up to      2.00  100%, up to      2.00
#   (1, 0, 0.1)       0.2  1000     0%, up to      0.00    0%, up to      0.00  100%, up to      0.20
#   the example of that user, 0.0001 rad: transformations gives an angle of 1.5358 rad
#   as described
#
# Ends with 0 if both still behave so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformations==2026.1.18 transforms3d==0.4.2 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from scipy.spatial.transform import Rotation
from transformations import euler_matrix, rotation_from_matrix
from transforms3d.axangles import mat2axangle

START = Rotation.from_euler("xyz", (180, 10, 30), degrees=True)  # a hand that points down, nearly


def by_transformations(matrix):
    whole = np.eye(4)
    whole[:3, :3] = matrix
    angle, axis, _ = rotation_from_matrix(whole)
    return angle * np.array(axis)


def by_transforms3d(matrix):
    axis, angle = mat2axangle(matrix)
    return angle * axis


def by_scipy(matrix):
    return Rotation.from_matrix(matrix).as_rotvec()


def measured(axis, speed, rate, read):
    """Share of steps whose velocity is right within 1 %, and the largest speed of all, in degrees a second."""
    poses = [(Rotation.from_rotvec(axis * np.radians(speed * i / rate)) * START).as_matrix() for i in range(rate + 1)]
    found = np.degrees([read(after @ before.T) for before, after in zip(poses, poses[1:])]) * rate
    good = np.linalg.norm(found - speed * axis, axis=1) < 0.01 * speed
    return float(good.mean()), float(np.linalg.norm(found, axis=1).max())


print(f"transformations {version('transformations')}, transforms3d {version('transforms3d')}: a hand turns")
print("expected: 100 % of the steps right, the largest speed the one it turns with")
print("axis            deg/s    Hz   transformations         transforms3d            SciPy")
table = []
for axis in ((0, 0, 1), (1, 0.2, 0.3), (1, 0, 0.1)):
    unit = np.array(axis) / np.linalg.norm(axis)
    for speed, rate in ((2.0, 100), (2.0, 1000), (0.2, 1000)):
        row = [measured(unit, speed, rate, read) for read in (by_transformations, by_transforms3d, by_scipy)]
        cells = "  ".join(f"{good:4.0%}, up to {top:9.2f}" for good, top in row)
        print(f"{axis!s:14} {speed:6.1f} {rate:5}   {cells}")
        table.append([good for good, _ in row])
angle = rotation_from_matrix(euler_matrix(1e-4, 0, 1e-5))[0]
print(f"the example of that user, 0.0001 rad: transformations gives an angle of {abs(angle):.4f} rad")
slow = [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
described = table == [[1, 1, 1]] * 3 + slow * 2 and abs(angle) > 1
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
