"""Depth maps stored as 12-bit video codes, as LeRobot 0.6 stores them.

q = 4095 (f(d) - f(min)) / (f(max) - f(min)) with f(d) = ln(d + shift) or d, depths and settings in metres. What is
nearer than the least depth has code 0 and what is further than the largest 4095, so that a depth that the sensor did
not measure is read back as the least one (0, NaN, minus infinity) or as the largest (infinity).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nextmove.data.errors import DataError
from nextmove.data.tables import Array

LEVELS = 4095
DEFAULTS: dict[str, Any] = {
    "video.depth_min": 0.01,
    "video.depth_max": 10.0,
    "video.shift": 3.5,
    "video.use_log": True,
}
"""Of a depth camera's `info`: which depths, m, have the first and the last code, and how those between are spaced."""
UNITS = {"m": ("float16", "float32", "float64"), "mm": ("uint16",)}
"""The dtypes that depths are recorded from, by the `depth_unit` of their camera's `info`."""


def depth_settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the `info` of a depth camera says of its depths: `depth_unit`, and LeRobot's defaults where it is silent."""
    given = {key: type(default)(info.get(key, default)) for key, default in DEFAULTS.items()}
    return {"depth_unit": info.get("depth_unit"), **given}


def check_depths(name: str, info: Mapping[str, Any]) -> None:
    """Raises `DataError` for a depth camera without a unit, and for settings that give no code to its depths."""
    try:
        unit, low, high, shift, log = depth_settings(info).values()
    except (TypeError, ValueError) as problem:
        raise DataError(f"features: {name!r}: info: {', '.join(DEFAULTS)}: expected numbers ({problem})") from None
    if unit not in UNITS:
        raise DataError(f"features: {name!r}: info.depth_unit: expected 'm' (floats) or 'mm' (uint16), found {unit!r}")
    if not 0 <= low < high < math.inf:
        raise DataError(
            f"features: {name!r}: info: expected 0 <= video.depth_min < video.depth_max, found {low:g} and {high:g}"
        )
    if log and not 0 < low + shift < math.inf:
        raise DataError(f"features: {name!r}: info: video.shift: expected more than {-low:g}, found {shift:g}")


def quantize(depth: Array, info: Mapping[str, Any]) -> Array:
    """12-bit codes, uint16 like `depth`: floats in metres or whole numbers in millimetres.

    In LeRobot's own order of float32 operations, in the unit that is given, so that the codes are the same.
    """
    _, *metres, log = depth_settings(info).values()
    unit = 1.0 if depth.dtype.kind == "f" else 1000.0
    low, high, shift = (np.float32(value * unit) for value in metres)
    with np.errstate(all="ignore"):  # What was not measured may be no number.
        found = depth.astype(np.float32)
        if log:
            bottom, top = math.log(float(low + shift)), math.log(float(high + shift))
            share = (np.log(found + shift) - bottom) / (top - bottom)
        else:
            share = (found - low) / (high - low)
    codes: Array = np.nan_to_num(np.rint(share * LEVELS), nan=0.0).clip(0, LEVELS).astype(np.uint16)
    return codes


def dequantize(codes: Array, info: Mapping[str, Any]) -> Array:
    """Depths in whole millimetres, float32 like `codes`, from 12-bit codes; `info` is the camera's `info` entry."""
    millimetres = np.rint(_metres(codes, info) * np.float32(1000))
    return millimetres.clip(0, 65535).astype(np.float32)


def depth_levels(info: Mapping[str, Any]) -> Array:
    """Depths (4096,) float64 of all codes, in the unit that the camera is recorded in."""
    codes = np.arange(LEVELS + 1)
    read = _metres if info.get("depth_unit") == "m" else dequantize
    return read(codes, info).astype(np.float64)


def _metres(codes: Array, info: Mapping[str, Any]) -> Array:
    _, low, high, shift, log = depth_settings(info).values()
    bottom, top = (math.log(low + shift), math.log(high + shift)) if log else (low, high)
    metres = codes.astype(np.float32) * np.float32((top - bottom) / LEVELS) + np.float32(bottom)
    if log:
        metres = np.exp(metres) - np.float32(shift)
    return metres.clip(np.float32(low), np.float32(high))
