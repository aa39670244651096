#!/usr/bin/env bash
# robosuite 1.4: an orientation below its lower limit is set to the upper one, and limits turn an arm out of themselves.
#
# orientation_limits of OSC_POSE are "limits (rad) below and above which" a goal's angles "will be clipped". Which limit
# is nearer is decided by distances with their sign, so that a goal a hundredth below the lower limit jumps to the upper
# one, across the whole range. Besides, the clipped angles are read about fixed axes and written about moving ones
# (robosuite_euler_angles_do_not_come_back.sh), which for a hand that points down, as a Panda's does, makes a yaw of 1.9
# one of -1.9. No limits: the arm does as told. With limits that hold its own pose: it leaves them and stays outside.
#
# Who is hit: whoever limits orientations, as position_limits beside them work, in 1.4.0 and 1.4.1, on which LIBERO and
# the published demonstrations of robomimic and MimicGen run. In 1.5 the controller refuses such limits.
# Way out: none set, and one's own clip of the relative rotation vector.
#
# Seen with robosuite 1.4.1, MuJoCo 3.3.0, NumPy 1.26.4, Python 3.11.7:
#
#   robosuite 1.4.1: yaw asked for, with limits of -0.50 and 0.50; expected: the nearer limit
#   asked -1.00 -0.51 -0.49  0.49  0.51  1.00
#   goal   0.50  0.50 -0.49  0.49  0.50  0.50
#   a Panda that is told to turn to the left, yaw within 1.17 and 1.97; expected: 1.97 at most
#   seconds   0.0   0.4   0.8   1.2   1.6   2.0
#   yaw      1.57  2.08  2.81  2.67  2.72  2.82
#   as described
#
# Ends with 0 if robosuite still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    robosuite==1.4.1 mujoco==3.3.0 numpy==1.26.4 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
import robosuite
from robosuite.controllers import load_controller_config
from robosuite.utils.control_utils import set_goal_orientation
from robosuite.utils.transform_utils import axisangle2quat, quat2axisangle, mat2euler, mat2quat, quat2mat

UNTIL = 40  # steps of 0.05 s


def clipped(yaw):
    """The goal's yaw where `yaw` is asked for, about z alone, with limits of half a radian."""
    asked = quat2mat(axisangle2quat(np.array([0, 0, yaw])))
    goal = set_goal_orientation(np.zeros(3), asked, orientation_limit=np.array([[-0.5] * 3, [0.5] * 3]))
    return float(quat2axisangle(mat2quat(goal))[2])


def turned(limits):
    """Yaw of a Panda's hand at the start and while it is told to turn to the left, 0.5 rad ahead, for two seconds."""
    config = load_controller_config(default_controller="OSC_POSE") | {"orientation_limits": limits}
    env = robosuite.make(
        "Lift", robots="Panda", controller_configs=config, has_renderer=False, has_offscreen_renderer=False,
        use_camera_obs=False, control_freq=20, horizon=1000, initialization_noise=None,
    )
    env.reset()
    control = env.robots[0].controller
    seen = [mat2euler(control.ee_ori_mat)]
    for _ in range(UNTIL):
        env.step(np.array([0, 0, 0, 0, 0, 1, 0.0]))
        seen.append(mat2euler(control.ee_ori_mat))
    env.close()
    return np.array(seen)


print(f"robosuite {version('robosuite')}: yaw asked for, with limits of -0.50 and 0.50; expected: the nearer limit")
found = [(yaw, clipped(yaw)) for yaw in (-1.0, -0.51, -0.49, 0.49, 0.51, 1.0)]
print("asked", *(f"{yaw:5.2f}" for yaw, _ in found))
print("goal ", *(f"{goal:5.2f}" for _, goal in found))
start = turned(None)[0, 2]
low, high = start - 0.4, start + 0.4
arm = turned([[2.5, -0.5, low], [-2.5, 0.5, high]])[:, 2]
print(f"a Panda that is told to turn to the left, yaw within {low:.2f} and {high:.2f}; expected: {high:.2f} at most")
print("seconds", *(f"{i / 20:5.1f}" for i in range(0, UNTIL + 1, 8)))
print("yaw    ", *(f"{arm[i]:5.2f}" for i in range(0, UNTIL + 1, 8)))
jumps = [abs(goal - 0.5) < 0.01 for yaw, goal in found if abs(yaw) > 0.5] == [True] * 4
described = jumps and arm[-1] > high + 0.5
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
