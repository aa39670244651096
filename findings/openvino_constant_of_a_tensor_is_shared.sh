#!/usr/bin/env bash
# OpenVINO: a constant made of a Tensor shares its memory by default, though its documentation says it is copied.
#
# The documented signature of opset13.constant has shared_memory=False, "data is being copied to this Constant". That is
# so for arrays. For a Tensor another overload is taken, whose default is True. Weights of 4 bits can be given as bytes
# only by a Tensor around an array, Tensor(array, shape, Type.u4), which does not keep the array: when the function that
# packs them returns, the constant reads freed memory. Nothing is said, the model compiles, and its answers are wrong, or
# right until the memory is used again.
#
# Who is hit: whoever builds weights of 4 bits in Python.
# Way out: constant(Tensor(array, shape, type), shared_memory=False).
#
# Seen with OpenVINO 2026.4.1, numpy 2.4.6, Python 3.11.7:
#
#   OpenVINO 2026.4.1: a constant of bytes [16, 50, 84, 118], which are then overwritten with 255
#   expected: [16, 50, 84, 118] in every constant, as documented
#   of an array, default                    [16, 50, 84, 118]
#   of a Tensor, default                    [255, 255, 255, 255]
#   of a Tensor, shared_memory=False        [16, 50, 84, 118]
#   as described
#
# Ends with 0 if OpenVINO still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - <<'PY'
import sys

import numpy as np
import openvino as ov
from openvino import opset13

BYTES = [16, 50, 84, 118]


def shown(make):
    array = np.array(BYTES, np.uint8)
    constant = make(array)
    array[:] = 255
    return constant.get_data().tolist()


def packed(array):
    return ov.Tensor(array, [2 * len(array)], ov.Type.u4)


print(f"OpenVINO {ov.__version__.split('-')[0]}: a constant of bytes {BYTES}, which are then overwritten with 255")
print(f"expected: {BYTES} in every constant, as documented")
seen = []
for what, make in (
    ("of an array, default", opset13.constant),
    ("of a Tensor, default", lambda array: opset13.constant(packed(array))),
    ("of a Tensor, shared_memory=False", lambda array: opset13.constant(packed(array), shared_memory=False)),
):
    found = shown(make)
    seen.append(found == BYTES)
    print(f"{what:39} {found}")
described = seen == [True, False, True]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
