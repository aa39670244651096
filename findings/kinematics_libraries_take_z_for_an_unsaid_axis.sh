#!/usr/bin/env bash
# pytorch-kinematics and kinpy: a URDF joint without <axis> turns about z, where URDF's default is x.
#
# <axis> is optional in URDF, "defaults to (1,0,0)". yourdfpy, urchin, ikpy, Pinocchio and MuJoCo read it so. These two
# leave it out and then fall back on (0,0,1), MJCF's default, for hinges and sliders alike. The chain is built, the
# numbers are smooth and of plausible size, the Jacobian fits them, and nothing is said: an inverse kinematics solved on
# such a chain is exact for another robot.
#
# Who is hit: whoever solves kinematics on a hand-written or generated URDF that spares what is the default.
# Way out: write <axis xyz="1 0 0"/> for each joint that has none.
#
# Seen with pytorch-kinematics 0.10.0, kinpy 0.6.1, yourdfpy 0.0.60, PyTorch 2.14.1, Python 3.11.7:
#
#   pytorch-kinematics 0.10.0, kinpy 0.6.1: a tool's place, joint at 0.5
#   expected: without <axis> the same as with <axis xyz='1 0 0'/>, in every column
#                          yourdfpy             kinpy                pytorch-kinematics
#   revolute, axis 1 0 0   [0.0, 0.26, 0.64]    [0.0, 0.26, 0.64]    [0.0, 0.26, 0.64]
#   revolute, no axis      [0.0, 0.26, 0.64]    [-0.14, 0.26, 0.5]   [-0.14, 0.26, 0.5]
#   prismatic, axis 1 0 0  [0.5, 0.3, 0.5]      [0.5, 0.3, 0.5]      [0.5, 0.3, 0.5]
#   prismatic, no axis     [0.5, 0.3, 0.5]      [0.0, 0.3, 1.0]      [0.0, 0.3, 1.0]
#   as described
#
# Ends with 0 if both still behave so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
# It needs 6 GB of disk for a while, for pytorch-kinematics brings PyTorch for CUDA along.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    pytorch-kinematics==0.10.0 kinpy==0.6.1 yourdfpy==0.0.60 torch==2.14.1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version
from pathlib import Path

import kinpy
import numpy as np
import pytorch_kinematics
import yourdfpy

ARM = """<?xml version="1.0"?>
<robot name="arm">
  <link name="base"/><link name="arm"/><link name="tool"/>
  <joint name="joint" type="{kind}">
    <parent link="base"/><child link="arm"/><origin xyz="0 0 0.5"/>{axis}
    <limit lower="-3" upper="3" effort="1" velocity="1"/>
  </joint>
  <joint name="flange" type="fixed"><parent link="arm"/><child link="tool"/><origin xyz="0 0.3 0"/></joint>
</robot>"""
VALUE = 0.5


def by_yourdfpy(urdf):
    Path("arm.urdf").write_text(urdf)
    robot = yourdfpy.URDF.load("arm.urdf")
    robot.update_cfg({"joint": VALUE})
    return robot.get_transform("tool", "base")[:3, 3]


def by_kinpy(urdf):
    return kinpy.build_chain_from_urdf(urdf).forward_kinematics({"joint": VALUE})["tool"].pos


def by_pytorch(urdf):
    chain = pytorch_kinematics.build_chain_from_urdf(urdf.encode())
    return chain.forward_kinematics({"joint": VALUE})["tool"].get_matrix()[0, :3, 3].numpy()


print(f"pytorch-kinematics {version('pytorch-kinematics')}, kinpy {version('kinpy')}: a tool's place, joint at {VALUE}")
print("expected: without <axis> the same as with <axis xyz='1 0 0'/>, in every column")
print(f"{'':22} {'yourdfpy':20} {'kinpy':20} pytorch-kinematics")
said, found = '<axis xyz="1 0 0"/>', []
for kind in ("revolute", "prismatic"):
    row = {}
    for what, axis in (("axis 1 0 0", said), ("no axis", "")):
        urdf = ARM.format(kind=kind, axis=axis)
        row[what] = [np.asarray(place(urdf), float) for place in (by_yourdfpy, by_kinpy, by_pytorch)]
        places = (f"{str([round(x + 0.0, 2) for x in p.tolist()]):20}" for p in row[what])
        print(f"{kind + ', ' + what:22} {' '.join(places)}".rstrip())
    found.append([bool(np.allclose(a, b, atol=1e-5)) for a, b in zip(*row.values())])
described = found == [[True, False, False]] * 2
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
