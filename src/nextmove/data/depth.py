"""Depth maps stored as 12-bit video codes.

q = 4095 (f(d) - f(min)) / (f(max) - f(min)) with f(d) = ln(d + shift) or d, depths in metres (LeRobot 0.6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nextmove.data.tables import Array

LEVELS = 4095


def dequantize(codes: Array, info: Mapping[str, Any]) -> Array:
    """Depths in whole millimetres, float32 like `codes`, from 12-bit codes; `info` is the camera's `info` entry."""
    low, high = float(info.get("video.depth_min", 0.01)), float(info.get("video.depth_max", 10.0))
    shift, log = float(info.get("video.shift", 3.5)), bool(info.get("video.use_log", True))
    bottom, top = (math.log(low + shift), math.log(high + shift)) if log else (low, high)
    metres = codes.astype(np.float32) * np.float32((top - bottom) / LEVELS) + np.float32(bottom)
    if log:
        metres = np.exp(metres) - np.float32(shift)
    millimetres = np.rint(metres.clip(np.float32(low), np.float32(high)) * np.float32(1000))
    return millimetres.clip(0, 65535).astype(np.float32)
