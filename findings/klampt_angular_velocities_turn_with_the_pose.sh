#!/usr/bin/env bash
# Klamp't: the angular velocity of a trajectory of poses is turned by the pose once too often.
#
# SO3Trajectory.deriv_angvel and the first half of SE3Trajectory.deriv_screw are an "angular velocity", by SO3Space one
# "expressed in the world frame". The difference of two rotations is taken in the world already, and then multiplied by
# the rotation once more: what comes back is R(t) w, which is that of no frame. A hand that points down and yaws to the
# left yaws to the right; after a quarter turn a motion about one fixed axis has an axis that wanders. Its length is
# right, and so is all of it near the identity, so that tests from there pass. For the same reason SE3Space.integrate(b,
# difference(a, b)), which "must" be a, is a pose tens of degrees away. Nothing is said.
#
# Who is hit: whoever makes velocity commands, or actions of a data set, from Klamp't's trajectories of poses.
# Way out: finite differences of eval, or so3.error(R(t + h), R(t)) divided by h, which is the velocity in the world.
#
# Seen with Klampt 0.10.1.post1, NumPy 2.4.6, Python 3.11.7:
#
#   Klampt 0.10.1.post1: angular velocity of a turn of 1 rad/s about a fixed axis of the world
#   expected: the axis, as in the column 'world' (or else 'body')
#   start, axis, time    world              body               deriv_angvel       deriv_screw[:3]
#   upright, z      0.1   0.00  0.00  1.00   0.00  0.00  1.00   0.00  0.00  1.00   0.00  0.00  1.00
#   upright, z      0.9   0.00  0.00  1.00   0.00  0.00  1.00   0.00  0.00  1.00   0.00  0.00  1.00
#   down, z         0.1   0.00  0.00  1.00   0.00  0.00 -1.00   0.00  0.00 -1.00   0.00  0.00 -1.00
#   down, z         0.9   0.00  0.00  1.00   0.00  0.00 -1.00   0.00  0.00 -1.00   0.00  0.00 -1.00
#   quarter turn, x 0.1   1.00  0.00  0.00   0.00 -1.00  0.00   0.00  1.00  0.10   0.00  1.00  0.10
#   quarter turn, x 0.9   1.00  0.00  0.00   0.00 -1.00  0.00   0.00  0.62  0.78   0.00  0.62  0.78
#   SE3Space.integrate(b, difference(a, b)) is 53 degrees from a; a and b are 79 apart
#   as described
#
# Ends with 0 if Klamp't still behaves so, with 1 if not. Takes a Python of 3.11 to 3.13: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check Klampt==0.10.1.post1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version
from math import degrees, pi

import numpy as np
from klampt.math import so3
from klampt.math.geodesic import SE3Space
from klampt.model.trajectory import SE3Trajectory, SO3Trajectory

X, Y, Z = np.eye(3).tolist()
UPRIGHT, DOWN, QUARTER = so3.identity(), so3.rotation(X, pi), so3.rotation(Z, pi / 2)


def moved(start, axis):
    """From a pose, one radian in one second about an axis of the world."""
    return start, so3.mul(so3.rotation(axis, 1.0), start)


def measured(path, t, h=1e-5):
    """Angular velocity in the world and in the body, from two poses that are close."""
    rates = (so3.ndarray(path.eval(t + h)) - so3.ndarray(path.eval(t - h))) / (2 * h)
    now = so3.ndarray(path.eval(t))
    return [np.array([m[2, 1], m[0, 2], m[1, 0]]) for m in (rates @ now.T, now.T @ rates)]


def shown(vector):
    return " ".join(f"{x + 0.0:5.2f}" for x in np.round(vector, 2))


print(f"Klampt {version('Klampt')}: angular velocity of a turn of 1 rad/s about a fixed axis of the world")
print("expected: the axis, as in the column 'world' (or else 'body')")
print("start, axis, time    world              body               deriv_angvel       deriv_screw[:3]")
found = []
for name, start, axis in (("upright, z", UPRIGHT, Z), ("down, z", DOWN, Z), ("quarter turn, x", QUARTER, X)):
    first, last = moved(start, axis)
    turn = SO3Trajectory([0, 1], [first, last])
    pose = SE3Trajectory([0, 1], [(first, [0, 0, 0]), (last, [0.1, 0, 0])])
    for t in (0.1, 0.9):
        world, body = measured(turn, t)
        given, screw = np.array(turn.deriv_angvel(t)), np.array(pose.deriv_screw(t)[:3])
        print(f"{name:15} {t}  {shown(world)}  {shown(body)}  {shown(given)}  {shown(screw)}")
        found.append([np.allclose(one, other, atol=1e-6) for one in (given, screw) for other in (world, body)])
a, b = (so3.rotation(axis, 1.0) + [0.0, 0.0, 0.0] for axis in (X, Y))
back = SE3Space().integrate(b, SE3Space().difference(a, b))
away = degrees(so3.distance(back[:9], a[:9]))
print(f"SE3Space.integrate(b, difference(a, b)) is {away:.0f} degrees from a; a and b are", end=" ")
print(f"{degrees(so3.distance(a[:9], b[:9])):.0f} apart")
upright, down, quarter = [True] * 4, [False, True] * 2, [False] * 4
described = found == [upright, upright, down, down, quarter, quarter] and away > 10
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
