"""Names of a vector's dimensions in whichever form LeRobot's tools have written them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dimension_names(entry: Any, width: int) -> tuple[str, ...]:
    """The names in a feature's `names`, () where it has none or not one for each of `width` dimensions.

    Written are a list, a list within a list (v2.1 of some robots), an object of lists ({"motors": [...]}, {"axes":
    [...]}), and an object from name to index ({"delta_x": 0, ...}).
    """
    found = tuple(flat_names(entry))
    return found if len(found) == width else ()


def flat_names(entry: Any) -> list[str]:
    """All names in an entry, in order; an empty list where it has none."""
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, list | tuple):
        return [name for part in entry for name in flat_names(part)]
    if isinstance(entry, Mapping):
        if all(isinstance(index, int) for index in entry.values()):
            return [str(name) for name in sorted(entry, key=lambda name: entry[name])]
        return [name for part in entry.values() for name in flat_names(part)]
    return []
