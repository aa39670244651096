#!/usr/bin/env bash
# mink: the logarithm of an exact half turn is zero, so that an interpolation from upright to upside down never turns.
#
# SO3.log multiplies the quaternion by the sign of w, which NumPy gives as 0 where w is 0, the one value an exact half
# turn has. Nothing is left, log is zero, and with it SE3.log, rminus and minus. interpolate, where alpha 1.0 is
# documented as the other pose, keeps the first one's orientation at every alpha and moves the hand alone. Nothing is
# said. Half a turn less a millionth of a degree is right. Since 1.1 the tasks of inverse kinematics have a logarithm of
# their own in C++, which is right: the error of a task and that of the poses differ by half a turn. From 0.0.11 to 1.0
# the tasks use this one, a target of half a turn counts as reached, and the arm stays where it is.
#
# Who is hit: whoever interpolates or compares key poses. A hand that points down is (0, 1, 0, 0), or diag(1, -1, -1) as
# a matrix, beside an upright one, and both are exact; SO3.from_x_radians(pi) has a w of 6e-17 and hides it.
# Way out: SciPy's Slerp for the orientation, or a w of 1e-15 in place of 0.
#
# Seen with mink 1.3.0 and 1.0.0, MuJoCo 4.0.0, NumPy 2.4.6, Python 3.11.7:
#
#   mink 1.3.0: a hand from upright to another orientation, 0.2 m away; angles in degrees
#   expected: the same angle in each column but that of half the way, and there half of it
#                       its matrix  log  half the way  all the way  FrameTask's error
#   180 - 1e-6 about x       180.0  180          90.0        180.0              180.0
#   180 about x              180.0    0           0.0          0.0              180.0
#   diag(-1, -1, 1)          180.0    0           0.0          0.0              180.0
#   mink 1.0.0: a hand from upright to another orientation, 0.2 m away; angles in degrees
#   expected: the same angle in each column but that of half the way, and there half of it
#                       its matrix  log  half the way  all the way  FrameTask's error
#   180 - 1e-6 about x       180.0  180          90.0        180.0              180.0
#   180 about x              180.0    0           0.0          0.0                0.0
#   diag(-1, -1, 1)          180.0    0           0.0          0.0                0.0
#   as described
#
# Ends with 0 if mink still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check mink==1.3.0 mujoco==4.0.0 numpy==2.4.6 2>/dev/null
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$place/old" \
    mink==1.0.0 2>/dev/null
cd "$place"
cat >half.py <<'PY'
import sys
from importlib.metadata import version

import mujoco
import numpy as np
from mink import SE3, SO3, Configuration, FrameTask

HAND = '<mujoco><worldbody><body name="hand"><freejoint/><geom size="0.1"/></body></worldbody></mujoco>'
hand = Configuration(mujoco.MjModel.from_xml_string(HAND))  # upright, at the origin
upright = hand.get_transform_frame_to_world("hand", "body")


def angle(pose):
    """Angle between a pose and the upright one, in degrees, by its matrix alone."""
    return np.degrees(np.arccos(np.clip((np.trace(pose.as_matrix()[:3, :3]) - 1) / 2, -1, 1)))


def about_x(degrees):
    """A turn about x; (0, 1, 0, 0) for 180."""
    half = np.radians(degrees / 2)
    return SO3(np.array([0.0 if degrees == 180 else np.cos(half), np.sin(half), 0.0, 0.0]))


POSES = (
    ("180 - 1e-6 about x", about_x(180 - 1e-6)),
    ("180 about x", about_x(180)),
    ("diag(-1, -1, 1)", SO3.from_matrix(np.diag([-1.0, -1.0, 1.0]))),
)
print(f"mink {version('mink')}: a hand from upright to another orientation, 0.2 m away; angles in degrees")
print("expected: the same angle in each column but that of half the way, and there half of it")
print(f"{'':19} its matrix  log  half the way  all the way  FrameTask's error")
found = []
for name, turn in POSES:
    other = SE3.from_rotation_and_translation(turn, np.array([0.2, 0.0, 0.0]))
    task = FrameTask("hand", "body", position_cost=1.0, orientation_cost=1.0)
    task.set_target(other)
    way = [angle(upright.interpolate(other, alpha)) for alpha in (0.5, 1.0)]
    log = np.degrees(np.linalg.norm(turn.log()))
    error = np.degrees(np.linalg.norm(task.compute_error(hand)[3:]))
    found.append([round(x, 3) for x in (angle(turn), log, *way, error)])
    print(f"{name:19} {angle(turn):10.1f} {log:4.0f} {way[0]:13.1f} {way[1]:12.1f} {error:18.1f}")
wrong = [180, 0, 0, 0, 180 if version("mink") == "1.3.0" else 0]
sys.exit(found != [[180, 180, 90, 180, 180], wrong, wrong])
PY
for path in "" "$place/old"; do
    PYTHONPATH="$path" venv/bin/python -W ignore half.py 2>said ||
        { code=$?; tail -n 3 said >&2; echo "behaves otherwise now"; exit "$code"; }
done
echo "as described"
