#!/usr/bin/env bash
# pyquaternion: yaw_pitch_roll turns about x first, so that the yaw of a vehicle on a slope is not its heading.
#
# yaw_pitch_roll is documented as "intrinsic Tait-Bryan angles following the z-y'-x'' convention", yaw first, which is
# what yaw, pitch and roll are for vehicles. Given back is x-y'-z'': roll about the ground's x first, yaw about the
# body's own z last, which the docstring's last sentence, R = R_x R_y R_z, has against its own first one. Where only one
# angle is not 0 both are the same, so that a quick test passes. A car that heads for 120 degrees up a slope of 10 has a
# roll of 8.7, and its nose is said to point down, by 5; a hand pitched by 60 degrees has a yaw that is off by 19. The
# quaternion and its matrix are right, and nothing is said. (KieranWynn/pyquaternion#72, open since 2021, says so of the
# docstring.)
#
# Who is hit: whoever reads headings of robots and vehicles that are not on flat ground, limits or learns angles of a
# hand, or makes rotations of them by anything else: SciPy, ROS, a simulator.
# Way out: SciPy's Rotation.from_quat([q.x, q.y, q.z, q.w]).as_euler("ZYX").
#
# Seen with pyquaternion 0.9.9, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   pyquaternion 0.9.9: degrees about z, then the new y, then the newest x
#   given                 nose points to   yaw_pitch_roll        its rotation is off by
#     120     0     0           120.0    120.0     0.0     0.0            0.0
#       0    20     0             0.0      0.0    20.0     0.0            0.0
#       0     0    30             0.0      0.0     0.0    30.0            0.0
#     120   -10     0           120.0    119.6     5.0     8.7           17.3
#      30    60     0            30.0     49.1    48.6   -40.9           58.5
#      90     0    20            90.0     90.0    20.0     0.0           28.2
#      40    30    20            40.0     35.5    35.4    -2.8           21.4
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    pyquaternion==0.9.9 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation


def turned(yaw, pitch, roll):
    """Yaw about z, then pitch about the new y, then roll about the newest x, of turns about one axis each."""
    axes = ((yaw, [0, 0, 1]), (pitch, [0, 1, 0]), (roll, [1, 0, 0]))
    first, second, third = (Quaternion(axis=axis, degrees=angle) for angle, axis in axes)
    return first * second * third


print(f"pyquaternion {version('pyquaternion')}: degrees about z, then the new y, then the newest x")
print("given                 nose points to   yaw_pitch_roll        its rotation is off by")
found = []
for given in ((120, 0, 0), (0, 20, 0), (0, 0, 30), (120, -10, 0), (30, 60, 0), (90, 0, 20), (40, 30, 20)):
    q = turned(*given)
    right = Rotation.from_matrix(q.rotation_matrix)
    nose = q.rotate([1, 0, 0])
    heading = np.degrees(np.arctan2(nose[1], nose[0]))
    angles = np.degrees(q.yaw_pitch_roll)
    off = np.degrees((right.inv() * Rotation.from_euler("ZYX", angles, degrees=True)).magnitude())
    other = np.degrees((right.inv() * Rotation.from_euler("XYZ", angles[::-1], degrees=True)).magnitude())
    found.append((bool(np.isclose(heading, given[0])), bool(off > 1), bool(other < 1e-3)))
    shown = " ".join(f"{value + 0.0:7.1f}" for value in angles.round(1))
    print(f"{given[0]:5} {given[1]:5} {given[2]:5} {heading:15.1f}  {shown} {off:14.1f}")
described = found == [(True, False, True)] * 3 + [(True, True, True)] * 4
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
