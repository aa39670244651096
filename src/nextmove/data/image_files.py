"""Image files decoded as intended: upright, 16 bits as 16 bits, transparent parts on white.

Shapes: H height, W width.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.errors import DataError
from nextmove.data.hidden import hidden
from nextmove.data.tables import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ORIENTATION = 0x0112
"""EXIF's number of the tag that says how an image lies."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for files that are damaged or none."""


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted, hidden files and folders passed over."""
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not hidden(p, folder) and p.is_file()
    )


def transparent(image: Any) -> bool:
    """Whether an opened image has a channel or a colour that lets its background through."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def read_image(path: Path) -> tuple[Array, bool]:
    """A file's colours (H, W, 3) float32 in [0, 1], and whether some of it was transparent and is shown on white.

    Turned as its EXIF says; grey of 16 bits keeps them. Raises `DataError` naming the file where it is damaged or
    its numbers have no white: whole numbers of 32 bits, floats outside [0, 1].
    """
    from PIL import Image

    try:
        # From memory: of TIFF files that it maps, Pillow 13 takes the orientation away without turning them.
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            seen_through = transparent(image)
            return rgb(image), seen_through
    except (*BROKEN, Image.DecompressionBombError) as problem:
        raise DataError(f"{path}: expected an image, found {broken(problem)}") from None


def broken(problem: Exception) -> str:
    """What a file is that Pillow does not read."""
    from PIL import UnidentifiedImageError

    if isinstance(problem, UnidentifiedImageError):  # which names an object in memory
        return "a file of no format that Pillow knows"
    return str(problem) or type(problem).__name__


def rgb(image: Any) -> Array:
    """An opened image as (H, W, 3) float32 in [0, 1]; raises ValueError for numbers that have no white."""
    from PIL import Image

    image = upright(image)
    if image.mode == "F":
        grey: Array = np.asarray(image, np.float32)
        if not (grey.min() >= 0 and grey.max() <= 1):
            raise ValueError(f"floats from {grey.min():g} to {grey.max():g}; floats are read in [0, 1], so divide them")
    elif image.mode == "I" and image.format != "PNG":
        raise ValueError("whole numbers of 32 bits, of which none is known to be white; save 8 or 16 bits")
    elif image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float32) / 65535
    else:
        if transparent(image):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"), np.float32) / 255
    return np.repeat(grey[..., None], 3, 2)


def upright(image: Any) -> Any:
    """The image turned as its EXIF says, as cameras write that were held on their side."""
    from PIL import ImageOps

    if image.getexif().get(ORIENTATION, 1) == 1:
        return image
    turned = ImageOps.exif_transpose(image)
    turned.format = image.format
    return turned


def decode(blob: bytes, channels: int) -> Array:
    """An encoded image of a data set, upright: colours (H, W, 3) uint8 where `channels` is 3.

    Otherwise its numbers as they are: (H, W) or (H, W, C), uint8, 16 bits or floats. Raises ValueError or OSError.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob)) as opened:
            image = upright(opened)
            if image.mode == "RGB" or (channels != 3 and image.mode not in ("1", "P")):
                stored: Array = np.asarray(image)
                return stored
            if channels != 3:
                return np.asarray(image.convert("L"))
            colours: Array = np.rint(rgb(image) * 255).astype(np.uint8)
            return colours
    except (SyntaxError, EOFError, struct.error, zlib.error) as problem:
        raise ValueError(str(problem)) from None
