#!/usr/bin/env bash
# visual-kinematics: a straight move with 10 degrees of turn takes a hand that points down through 350, past the top.
#
# RobotTrajectory.interpolate(motion="lin") brings the frames to three Euler angles, z first, and blends each of them as
# a number. A hand that points down has one of 180 degrees among them, which is -180 as well: tilted by 5 to one side it
# has 175, to the other -175, and what is blended from 175 to -175 passes 0, where the hand points up. All joints follow,
# for the inverse kinematics finds every pose of it. The trajectory itself knows better: len_segs_rot of the same move is
# 10 degrees, and by that the time is shared out. Nothing is said, and no thread was found about it. (Of a real arm that
# turned so under other software, for the same reason, tells pantor/frankx#40.)
#
# Who is hit: whoever plans straight moves of a gripper that points down, as nearly all that pick from a table do.
# Way out: scipy's Slerp over the frames' rotations, a Frame at each point of it, and robot.inverse of that.
#
# Seen with visual-kinematics 0.2.1, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   visual-kinematics 0.2.1: a straight move of a hand that points down, in degrees
#   roll at both ends    turn by len_segs_rot   turn, tilt by Slerp   turn, tilt of interpolate
#      175 to  165                 10                  10   15                   10   15
#     -165 to -175                 10                  10   15                   10   15
#      175 to -175                 10                  10    5                  350  180
#     -179 to  179                  2                   2    1                  358  180
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    visual-kinematics==0.2.1 numpy==2.4.6 scipy==1.17.1 matplotlib==3.11.2 2>/dev/null
cd "$place"
export MPLBACKEND=Agg MPLCONFIGDIR="$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from scipy.spatial.transform import Rotation, Slerp
from visual_kinematics.Frame import Frame
from visual_kinematics.RobotSerial import RobotSerial
from visual_kinematics.RobotTrajectory import RobotTrajectory

RIGHT = np.pi / 2
ARM = np.array(
    [
        [0.15, 0, RIGHT, 0],
        [0, -0.43, 0, 0],
        [0, -0.39, 0, 0],
        [0.11, 0, RIGHT, 0],
        [0.095, 0, -RIGHT, 0],
        [0.08, 0, 0, 0],
    ]
)  # d, a, alpha, theta of an arm with six joints
HOME = [0, -1.2, 1.6, -1.97, -RIGHT, 0]  # its hand points down
STEPS = 100


def shown(frames):
    """Degrees by which the hand turns in all, and the largest angle between it and straight down."""
    turned = sum(a.angle_to(b) for a, b in zip(frames, frames[1:]))
    tilt = max(np.arccos(np.clip(-f.z_3_1[2, 0], -1, 1)) for f in frames)
    return round(np.degrees(turned)), round(np.degrees(tilt))


def moved(start, end):
    """A move of 10 cm between two rolls of the hand: its turn as the package says it, as it is, and by Slerp."""
    robot = RobotSerial(ARM)
    place = robot.forward(np.array(HOME)).t_3_1
    turns = Rotation.from_euler("x", [[start], [end]], degrees=True)
    frames = [Frame.from_r_3_3(turns[i].as_matrix(), place + [[0], [0.1 * i], [0]]) for i in (0, 1)]
    path = RobotTrajectory(robot, frames)
    joints, _ = path.interpolate(STEPS, motion="lin")
    went = [robot.forward(values) for values in joints]
    arrived = went[-1].angle_to(frames[1]) < 1e-3 and went[-1].distance_to(frames[1]) < 1e-3
    between = Slerp([0, 1], turns)(np.linspace(0, 1, STEPS + 1)).as_matrix()
    right = [Frame.from_r_3_3(turn, place) for turn in between]
    return round(np.degrees(path.len_segs_rot[0])), shown(went), shown(right), arrived


print(f"visual-kinematics {version('visual-kinematics')}: a straight move of a hand that points down, in degrees")
print("roll at both ends    turn by len_segs_rot   turn, tilt by Slerp   turn, tilt of interpolate")
found = []
for start, end in ((175, 165), (-165, -175), (175, -175), (-179, 179)):
    said, went, right, arrived = moved(start, end)
    found.append((said == right[0], went == right, went[1] > 170, arrived))
    print(f"{start:6} to {end:4} {said:18} {right[0]:19} {right[1]:4} {went[0]:20} {went[1]:4}")
described = found == [(True, True, False, True)] * 2 + [(True, False, True, True)] * 2
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
