#!/usr/bin/env bash
# urchin: a URDF that is loaded and saved again is heavier, by 1 kg and 1 kg m2 for every link that is only a frame.
#
# A link without <inertial> has no mass ("defaults to a zero mass and zero inertia if not specified", ROS's description
# of the format), and nearly every robot has some: tool0, camera frames, grasp points. urchin gives each of them 1 kg
# and an inertia of 1 about every axis when it loads, and save() writes that out as if it were the robot's. Nothing is
# said. The inertia, as of a wheel of metres, is worse than the mass. The same was reported of another tool that writes
# URDF anew (mesh-iit/urdf-modifiers#19, open).
#
# Who is hit: whoever edits or scales a robot by urchin and simulates what it saved, or reads masses from its links.
# Way out: drop the <inertial> elements that the given file did not have from the saved one, or edit the XML by lxml.
#
# Seen with urchin 0.0.30, MuJoCo 4.0.0, NumPy 2.4.6, Python 3.11.7:
#
#   urchin 0.0.30: an arm of one link of 0.5 kg, with 3 frames at its end
#   expected: the same of both files
#   file         mass that moves  torque to hold  inertia at the shoulder
#   given.urdf          0.500 kg        0.736 Nm               0.015 kg m2
#   saved.urdf          3.500 kg       11.036 Nm               3.388 kg m2
#   as described
#
# Ends with 0 if urchin still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    urchin==0.0.30 mujoco==4.0.0 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import mujoco
from urchin import URDF

FRAMES = {"flange": 0.3, "tool0": 0.4, "wrist_camera": 0.35}
ARM = """<robot name="arm">
  <link name="base"/>
  <link name="upper">
    <inertial>
      <origin xyz="0.15 0 0"/><mass value="0.5"/>
      <inertia ixx="0.001" ixy="0" ixz="0" iyy="0.004" iyz="0" izz="0.004"/>
    </inertial>
  </link>
  <joint name="shoulder" type="revolute">
    <parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="30" velocity="3"/>
  </joint>
""" + "".join(
    f'  <link name="{name}"/><joint name="to_{name}" type="fixed"><parent link="upper"/><child link="{name}"/>'
    f'<origin xyz="{along} 0 0"/></joint>\n'
    for name, along in FRAMES.items()
) + "</robot>\n"  # fmt: skip


def measured(path):
    """The mass that moves, the torque that holds the arm level, and what the shoulder feels of inertia, by MuJoCo."""
    model = mujoco.MjModel.from_xml_path(path)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return [float(round(x, 3)) for x in (sum(model.body_mass[1:]), abs(data.qfrc_bias[0]), data.M[0])]


with open("given.urdf", "w") as file:
    file.write(ARM)
URDF.load("given.urdf").save("saved.urdf")
print(f"urchin {version('urchin')}: an arm of one link of 0.5 kg, with {len(FRAMES)} frames at its end")
print("expected: the same of both files")
print("file         mass that moves  torque to hold  inertia at the shoulder")
found = [measured(path) for path in ("given.urdf", "saved.urdf")]
for name, (mass, torque, inertia) in zip(("given.urdf", "saved.urdf"), found):
    print(f"{name:11}  {mass:12.3f} kg  {torque:11.3f} Nm  {inertia:18.3f} kg m2")
described = found[0][0] == 0.5 and found[1][0] == 0.5 + len(FRAMES) and found[1][2] > 3
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
