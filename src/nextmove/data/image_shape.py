"""Height, width and channels of a camera, whatever order its data set stores or claims.

Frames are always read as (height, width, channels). Old sets give channels first and say so in the names; some say the
one and have the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextmove.data.names import flat_names

MOST = 4
"""Channels of an image."""


def image_shape(shape: Sequence[int], names: Any, info: Mapping[str, Any]) -> tuple[tuple[int, int, int], str]:
    """(height, width, channels) of a camera's three sizes in any order, and what is wrong with its entry, or nothing.

    names: the entry's; where they contradict the sizes, the sizes decide, and between height and width those of the
    video in `info`.
    """
    axes = [_axis(name) for name in flat_names(names)]
    said = sorted(axes) == ["c", "h", "w"]
    by_size = "chw" if shape[2] > MOST >= shape[0] else "hwc"
    order = "".join(axes) if said else by_size
    height, width, channels = (shape[order.index(axis)] for axis in "hwc")
    if channels > MOST >= min(shape[0], shape[2]):
        height, width, channels = (shape[by_size.index(axis)] for axis in "hwc")
    film = info.get("video.height", info.get("height")), info.get("video.width", info.get("width"))
    if film == (width, height) and film != (height, width):
        width, height = height, width
    if not said or [shape[axes.index(axis)] for axis in "hwc"] == [height, width, channels]:
        return (height, width, channels), ""
    claimed = ", ".join(flat_names(names))
    return (height, width, channels), (
        f"info.json: shape {list(shape)} is not in the order of its names ({claimed}); read as {height} x {width} px, "
        f"channels {channels}"
    )


def _axis(name: str) -> str:
    low = name.lower()
    return "c" if low.startswith(("channel", "rgb")) else low[:1]
