#!/usr/bin/env bash
# rosbags-image: a picture whose rows are padded comes back sheared, for the length of a row in the message is not read.
#
# sensor_msgs/Image has "step", the full row length in bytes, and drivers that align rows to 4, 16 or 64 bytes use it:
# where a row of pixels fills less, the rest is padding. message_to_cvimage takes height x width pixels from the start
# of the data instead, as if rows followed each other directly. Each row stands further right than the one above, the
# padding stands inside the picture as pixels, and the end of the picture is cut off. Shape and type are right and
# nothing is said; the package "aims to provide the same functionality as cv_bridge", which reads step. Widths that are
# multiples of the alignment, 640 or 1280, hide it; crops and cameras of 30 or 90 columns show it.
#
# Who is hit: whoever turns bags of cameras with aligned rows into training pictures.
# Way out: np.ndarray((height, width, channels), dtype, message.data, strides=(message.step, ...)).
#
# Seen with rosbags-image 0.10.4, rosbags 0.11.9, OpenCV 5.0.0, Python 3.11.7:
#
#   rosbags-image 0.10.4: an upright post (#) of 30 columns, padding is 0 (-)
#   expected: the same picture, whatever the length of its rows
#   step 30                         step 32
#   ............######............  ............######............
#   ............######............  --............######..........
#   ............######............  ..--............######........
#   ............######............  ....--............######......
#   ............######............  ......--............######....
#   ............######............  ........--............######..
#   pixels that differ: 0 and 58 of 180
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    rosbags-image==0.10.4 rosbags==0.11.9 opencv-python-headless==5.0.0.93 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

types = get_typestore(Stores.ROS2_HUMBLE).types
header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
HEIGHT, WIDTH = 6, 30
picture = np.full((HEIGHT, WIDTH), 50, np.uint8)
picture[:, 12:18] = 200  # an upright post


def read(step):
    """The picture, back from a message whose rows are `step` bytes long."""
    rows = np.zeros((HEIGHT, step), np.uint8)
    rows[:, :WIDTH] = picture
    return message_to_cvimage(types["sensor_msgs/msg/Image"](header, HEIGHT, WIDTH, "mono8", 0, step, rows.ravel()))


print(f"rosbags-image {version('rosbags-image')}: an upright post (#) of {WIDTH} columns, padding is 0 (-)")
print("expected: the same picture, whatever the length of its rows")
shown, sheared = read(WIDTH), read(32)
print(f"{'step 30':{WIDTH}}  step 32")
for left, right in zip(shown, sheared):
    print("  ".join("".join({50: ".", 200: "#", 0: "-"}[int(p)] for p in row) for row in (left, right)))
print(f"pixels that differ: {int((shown != picture).sum())} and {int((sheared != picture).sum())} of {picture.size}")
described = np.array_equal(shown, picture) and sheared.shape == picture.shape and bool((sheared != picture).sum() > 20)
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
