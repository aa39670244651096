#!/usr/bin/env bash
# rosbags-image: a compressed depth picture comes back as its upper eight bits, millimetres divided by 256.
#
# image_transport writes 16UC1 depth as a CompressedImage whose format is "16UC1; png compressed" and whose bytes are a
# PNG of 16 bits. message_to_cvimage decodes it with a flag that brings every picture to 8 bits, whatever format says:
# a wall at one metre has the depth 3, all within a quarter of a metre has 0, which in a depth picture means "nothing
# there". The same depth as an uncompressed Image is right. Nothing is said, and asking for the right encoding,
# color_space="16UC1", is refused as a conversion from bgr8.
#
# Who is hit: whoever reads depth (or thermal, or mono16) cameras out of bags that were recorded on compressed topics.
# Way out: cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED).
#
# Seen with rosbags-image 0.10.4, rosbags 0.11.9, OpenCV 5.0.0, Python 3.11.7:
#
#   rosbags-image 0.10.4: a depth picture in millimetres, as Image and as CompressedImage
#   expected: uint16 [180, 255, 256, 1000, 1500, 3000, 9999, 65535] from both
#   Image              uint16 [180, 255, 256, 1000, 1500, 3000, 9999, 65535]
#   CompressedImage    uint8 [0, 0, 1, 3, 5, 11, 39, 255]
#   its PNG, unchanged uint16 [180, 255, 256, 1000, 1500, 3000, 9999, 65535]
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

import cv2
import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

types = get_typestore(Stores.ROS2_HUMBLE).types
header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
depth = np.array([[180, 255, 256, 1000], [1500, 3000, 9999, 65535]], np.uint16)
height, width = depth.shape
png = cv2.imencode(".png", depth)[1].ravel()
plain = types["sensor_msgs/msg/Image"](header, height, width, "16UC1", 0, 2 * width, depth.view(np.uint8).ravel())
small = types["sensor_msgs/msg/CompressedImage"](header, "16UC1; png compressed ", png)

print(f"rosbags-image {version('rosbags-image')}: a depth picture in millimetres, as Image and as CompressedImage")
print(f"expected: uint16 {depth.ravel().tolist()} from both")
found = []
for what, read in (
    ("Image", message_to_cvimage(plain)),
    ("CompressedImage", message_to_cvimage(small)),
    ("its PNG, unchanged", cv2.imdecode(png, cv2.IMREAD_UNCHANGED)),
):
    print(f"{what:18} {read.dtype} {read.ravel().tolist()}")
    found.append(np.array_equal(read, depth))
described = found == [True, False, True] and np.array_equal(message_to_cvimage(small), depth >> 8)
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
