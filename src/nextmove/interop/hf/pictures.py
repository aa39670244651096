"""preprocessor_config.json: how a published tower's pictures are prepared, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextmove.config import ConfigError, nearest, read_object
from nextmove.encoders.pictures import SCALES
from nextmove.encoders.prepared import Filter, Prepared

FILE = "preprocessor_config.json"
FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""
KNOWN = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize"),
    *("image_mean", "image_std", "do_convert_rgb", "do_pad", "use_square_size"),
)
IDLE = (
    *("feature_extractor_type", "image_processor_type", "processor_class", "crop_pct", "data_format", "return_tensors"),
    *("input_data_format", "device", "disable_grouping", "default_to_square", "image_seq_length"),
    *("_processor_class", "_valid_processor_keys"),
)
"""Keys that change no numbers of pictures that are colours already."""
SQUARE = ("ViT", "Siglip", "Blip")
"""Beginnings of the processors for whom one number is both sides."""


def read_pictures(folder: Path) -> Prepared:
    """How the pictures of a folder's model are prepared.

    Raises FileNotFoundError without the file, or ConfigError naming the key whose meaning we lack.
    """
    data = read_object(folder / FILE)
    for key in data:
        if key not in KNOWN and key not in IDLE:
            raise ConfigError(f"{FILE}: unknown key {key!r}{nearest(key, KNOWN)}")
    kind = str(data.get("image_processor_type") or data.get("feature_extractor_type") or "")
    size = _size(data.get("size", 224), square=kind.startswith(SQUARE) or bool(data.get("use_square_size")))
    number = data.get("resample", 2 if kind.startswith("ViT") else 3)
    if not isinstance(number, int) or not 0 <= number < len(FILTERS):
        raise ConfigError(f"{FILE}: resample: expected Pillow's number 0 to {len(FILTERS) - 1}, found {number!r}")
    crop = None
    if data.get("do_center_crop", kind.startswith(("CLIP", "Bit", "Llava"))):
        side = _size(data.get("crop_size", 224), square=True)
        assert isinstance(side, tuple)
        crop = side
    usual = SCALES["symmetric" if kind.startswith(("ViT", "Siglip")) else "clip"]
    mean, std = data.get("image_mean", usual[0]), data.get("image_std", usual[1])
    scale = float(data.get("rescale_factor", 1 / 255)) if data.get("do_rescale", True) else 1.0
    normal = data.get("do_normalize", True)
    return Prepared(
        bool(data.get("do_pad", False)),
        size if data.get("do_resize", True) else None,
        FILTERS[number],
        crop,
        scale,
        _colour("image_mean", mean) if normal else (0.0, 0.0, 0.0),
        _colour("image_std", std) if normal else (1.0, 1.0, 1.0),
    )


def _size(found: Any, *, square: bool) -> int | tuple[int, int]:
    """One number for the shorter side, two for height and width."""
    if isinstance(found, Mapping) and set(found) == {"shortest_edge"}:
        found, square = found["shortest_edge"], False
    if isinstance(found, Mapping) and set(found) == {"height", "width"}:
        found = [found["height"], found["width"]]
    sides = found if isinstance(found, list) else [found]
    if len(sides) not in (1, 2) or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigError(f"{FILE}: size: expected shortest_edge, or height and width, found {found!r:.80}")
    if len(sides) == 2:
        return sides[0], sides[1]
    return (sides[0], sides[0]) if square else sides[0]


def _colour(name: str, found: Any) -> tuple[float, ...]:
    if not isinstance(found, list | tuple) or len(found) != 3 or not all(isinstance(x, int | float) for x in found):
        raise ConfigError(f"{FILE}: {name}: expected three numbers, found {found!r:.80}")
    return tuple(float(x) for x in found)
