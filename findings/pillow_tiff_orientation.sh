#!/usr/bin/env bash
# Pillow: a TIFF picture that says how it is to be turned is turned or not, depending on whether it is opened by its path.
#
# A camera that is held on its side writes its pictures lying, with TIFF tag 274 (Orientation) = 6. Pillow's TIFF reader
# turns such pictures while it loads them and then drops the tag. For uncompressed grey pictures (8 or 16 bits) that are
# opened by their path it drops the tag WITHOUT turning: height and width change places at load, the picture lies on its
# side, and ImageOps.exif_transpose, called to be sure, finds nothing left to do. The same bytes opened from memory, and
# colour pictures either way, are turned.
#
# Who is hit: depth maps and 16-bit grey frames in TIFF, read by path, as loaders of picture folders do.
# Way out: open the bytes, Image.open(io.BytesIO(path.read_bytes())).
#
# Seen with Pillow 13.0.0 (and 12.0.0, 11.3.0), Python 3.12.1:
#
#   Pillow 13.0.0, a picture 12 wide and 16 high, stored lying with Orientation 6
#   expected: after exif_transpose 12 x 16 and the same pixels, opened by path and from memory
#   grey, 8 bits   by path: 16 x 12, pixels differ    from memory: 12 x 16, pixels equal
#   grey, 16 bits  by path: 16 x 12, pixels differ    from memory: 12 x 16, pixels equal
#   colours        by path: 12 x 16, pixels equal     from memory: 12 x 16, pixels equal
#   grey by path: size before load 12 x 16, after load 16 x 12, orientation left: None
#   as described
#
# Ends with 0 if Pillow still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy 2>/dev/null
cd "$place"
venv/bin/python - <<'PY'
import io
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

print(f"Pillow {PIL.__version__}, a picture 12 wide and 16 high, stored lying with Orientation 6")
print("expected: after exif_transpose 12 x 16 and the same pixels, opened by path and from memory")
wide = (np.arange(16 * 12).reshape(16, 12) * 300).astype(np.uint16)
grey = (wide >> 8).astype(np.uint8)
seen = []
for name, upright in (("grey, 8 bits", grey), ("grey, 16 bits", wide), ("colours", np.stack([grey] * 3, 2))):
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save("a.tif", tiffinfo={274: 6})
    told = []
    for how, source in (("by path", "a.tif"), ("from memory", io.BytesIO(Path("a.tif").read_bytes()))):
        with Image.open(source) as image:
            shown = ImageOps.exif_transpose(image)
        same = np.array_equal(np.asarray(shown), upright)
        seen.append(same)
        told.append(f"{how}: {shown.width} x {shown.height}, pixels {'equal' if same else 'differ'}")
    print(f"{name:14} {told[0]:34} {told[1]}")
Image.fromarray(np.ascontiguousarray(np.rot90(grey))).save("a.tif", tiffinfo={274: 6})
image = Image.open("a.tif")
before = f"{image.width} x {image.height}"
image.load()
left = image.getexif().get(274)
print(f"grey by path: size before load {before}, after load {image.width} x {image.height}, orientation left: {left}")
described = seen == [False, True, False, True, True, True] and left is None
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
