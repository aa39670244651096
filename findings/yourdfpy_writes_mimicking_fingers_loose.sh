#!/usr/bin/env bash
# yourdfpy: a URDF that is loaded and written again has lost every mimic, so that a gripper's second finger is loose.
#
# Fingers, four-bar linkages and most hands say by <mimic> that a joint follows another. yourdfpy reads it, moves by it,
# and has a function that writes it, which nothing calls: write_xml_file leaves it out. It leaves out <transmission>,
# <safety_controller> and <calibration> as well. Nothing is said, and validate() is content with both. What was one
# command of a gripper becomes two: the other finger stays where it is, or falls. A user asks about it
# (clemense/yourdfpy#57, open).
#
# Who is hit: whoever edits, scales or renames by yourdfpy and gives the file to a simulator, or counts the joints of
# actions by it: a data set of 8 actions meets a robot of 9.
# Way out: write the <mimic> elements into the file oneself, or edit the XML by lxml instead.
#
# Seen with yourdfpy 0.0.60, NumPy 2.4.6, Python 3.11.7:
#
#   yourdfpy 0.0.60: a gripper told to open each finger by 30 mm
#   expected: the same of both files
#   file          <mimic>  joints to command    left finger  right finger
#   given.urdf          1  left                     30.0 mm      -30.0 mm
#   written.urdf        0  left right               30.0 mm        0.0 mm
#   as described
#
# Ends with 0 if yourdfpy still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check yourdfpy==0.0.60 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

from yourdfpy import URDF

JOINT = """
  <joint name="{name}" type="prismatic">
    <parent link="hand"/><child link="{name}_finger"/><axis xyz="0 {way} 0"/>
    <limit lower="0" upper="0.04" effort="20" velocity="0.2"/>{more}
  </joint>"""
GRIPPER = (
    '<robot name="gripper"><link name="hand"/><link name="left_finger"/><link name="right_finger"/>'
    + JOINT.format(name="left", way=1, more="")
    + JOINT.format(name="right", way=-1, more='<mimic joint="left" multiplier="1" offset="0"/>')
    + "</robot>"
)


def opened(path):
    """Names of the joints to command, and how wide the fingers stand at a command of 30 mm, in mm."""
    robot = URDF.load(path, load_meshes=False)
    assert robot.validate()
    robot.update_cfg({"left": 0.03})
    left, right = (robot.get_transform(f"{side}_finger", "hand")[1, 3] for side in ("left", "right"))
    return robot, robot.actuated_joint_names, round(1000 * left, 3), round(1000 * right, 3)


with open("given.urdf", "w") as file:
    file.write(GRIPPER)
robot, *before = opened("given.urdf")
robot.write_xml_file("written.urdf")
_, *after = opened("written.urdf")
elements = [open(path).read().count("<mimic") for path in ("given.urdf", "written.urdf")]
print(f"yourdfpy {version('yourdfpy')}: a gripper told to open each finger by 30 mm")
print("expected: the same of both files")
print("file          <mimic>  joints to command    left finger  right finger")
for name, mimics, (joints, left, right) in zip(("given.urdf", "written.urdf"), elements, (before, after)):
    print(f"{name:12}  {mimics:7}  {' '.join(joints):19}  {left:8} mm  {right:9} mm")
described = elements == [1, 0] and before == [["left"], 30, -30] and after == [["left", "right"], 30, 0]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
