"""Images brought to the size that a network reads: stretched, cut or padded, by bicubic weights as vision-language
models are published with.

Shapes: H height, W width.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextmove.data.errors import DataError
from nextmove.data.image_files import BROKEN, broken, rgb
from nextmove.data.tables import Array

Fit = Literal["stretch", "crop", "pad"]
"""stretch: to the size (SigLIP, BLIP, PaliGemma); crop: the shorter side to the size and the middle of the longer one
(CLIP); pad: made square with the mean colour of CLIP's images, then resized (LLaVA 1.5)."""
MEAN = (122, 116, 104)
"""CLIP's mean colour, of 255, rounded down as LLaVA does."""


def read_fitted(path: Path, size: tuple[int, int], fit: Fit = "stretch") -> Array:
    """A file's colours (H, W, 3) uint8 at a size (height, width), whatever its mode: see `image_files.read_image`.

    Raises `DataError` naming the file where it is absent, empty or damaged, or its numbers have no white.
    """
    try:
        return decode_fitted(path.read_bytes(), size, fit, str(path))
    except OSError as problem:
        raise DataError(f"{path}: expected an image, found {problem.strerror or problem}") from None


def decode_fitted(blob: bytes, size: tuple[int, int], fit: Fit, where: str) -> Array:
    """The same of a file's content; `where` names it in errors."""
    from PIL import Image

    if not blob:
        raise DataError(f"{where}: expected an image, found an empty file")
    try:
        with Image.open(io.BytesIO(blob)) as image:
            return fitted(image, size, fit)
    except (*BROKEN, Image.DecompressionBombError) as problem:
        raise DataError(f"{where}: expected an image, found {broken(problem)}") from None


def fitted(image: Any, size: tuple[int, int], fit: Fit = "stretch") -> Array:
    """An opened image as colours (H, W, 3) uint8 at a size (height, width)."""
    from PIL import Image

    if image.mode != "RGB" or image.getexif():
        image = Image.fromarray(np.rint(rgb(image) * 255).astype(np.uint8))
    height, width = size
    if fit == "pad" and image.width * height != image.height * width:
        image = _padded(image, height / width)
    if fit == "crop":
        scale = max(height / image.height, width / image.width)
        inner = max(height, int(image.height * scale)), max(width, int(image.width * scale))
        top, left = (inner[0] - height) // 2, (inner[1] - width) // 2
        whole = image.resize((inner[1], inner[0]), Image.Resampling.BICUBIC)
        return np.asarray(whole.crop((left, top, left + width, top + height)))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _padded(image: Any, ratio: float) -> Any:
    """The image in the middle of a larger one of this height over width."""
    from PIL import Image

    height = max(image.height, round(image.width * ratio))
    width = max(image.width, round(image.height / ratio))
    out = Image.new("RGB", (width, height), MEAN)
    out.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return out
