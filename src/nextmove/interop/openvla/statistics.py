"""Statistics of actions by data set, as OpenVLA's folders hold them, and the scaling that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextmove.codecs.scaled import Scaled
from nextmove.config import ConfigError, nearest, read_object

FILE = "dataset_statistics.json"
"""Of a fine-tuned folder; it stands in place of config.json's `norm_stats`."""
Bounds = Literal["quantiles", "min_max"]
KEYS: dict[Bounds, tuple[str, str]] = {"quantiles": ("q01", "q99"), "min_max": ("min", "max")}


def read_statistics(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """By data set, of a folder; raises ConfigError where there are none."""
    found = read_object(folder / FILE) if (folder / FILE).is_file() else config.get("norm_stats")
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"config.json: norm_stats: expected statistics of actions by data set, found {found!r:.60}")
    return found


def chosen(statistics: Mapping[str, Any], key: str | None, refitted: bool = False) -> tuple[str, Mapping[str, Any]]:
    """The data set called `key`, or the only one, and its statistics; raises ConfigError listing those present.

    refitted: others come in their place, so of several any will do.
    """
    there = ", ".join(sorted(statistics))
    if key is None:
        if len(statistics) > 1 and not refitted:
            raise ConfigError(
                f"unnorm_key: expected one of {there}, for actions are in the units of one data set; found none"
            )
        key = next(iter(statistics))
    if key not in statistics:
        raise ConfigError(f"unnorm_key: expected one of {there}, found {key!r}{nearest(key, statistics)}")
    own = statistics[key]
    if not isinstance(own, Mapping):
        raise ConfigError(f"norm_stats.{key}: expected an object, found {own!r:.60}")
    return key, own


def set_scale(scale: Scaled, stats: Mapping[str, Any], where: str, bounds: Bounds = "quantiles") -> list[str]:
    """Gives a scale the ranges of statistics; returns what is to be said of them.

    Dimensions whose `mask` is False stay as they are; without a mask there are none. Raises ConfigError naming a
    statistic that is absent, misshapen or not finite.
    """
    low, high = KEYS[bounds]
    for key in (low, high):
        if key not in stats:
            raise ConfigError(f"{where}.{key}: expected this statistic, found {sorted(stats)}")
    mask = stats.get("mask")
    try:
        scaled = np.asarray([True] * scale.width if mask is None else mask, bool)
        still = scale.set_ranges(np.asarray(stats[low], float), np.asarray(stats[high], float), scaled)
    except (ValueError, TypeError) as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if not still:
        return []
    return [
        f"{where}: {low} and {high} are equal in dimensions {still}: their values are shifted, not divided, and "
        "decoded as that one value"
    ]


def width(stats: Mapping[str, Any], where: str, bounds: Bounds = "quantiles") -> int:
    """Numbers of an action; raises ConfigError where the statistics do not say."""
    values = stats.get(KEYS[bounds][0])
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.{KEYS[bounds][0]}: expected a list of numbers, found {values!r:.60}")
    return len(values)
