"""The statistics of a checkpoint in the scales of a policy: LeRobot's of its processors, openpi's of its assets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nextmove.codecs import Scaled
from nextmove.config import ConfigError, nearest, read_object
from nextmove.interop.lerobot.config import ACTION, STATE
from nextmove.interop.pi.config import PiShared
from nextmove.models.policy import Policy

NORMS = "norm_stats.json"
EPS = 1e-6
"""What openpi adds to a spread or a range, on the way in and on the way back."""


def give(policy: Policy, states: Scaled, actions: Scaled) -> list[str]:
    """Gives a policy its scales; a sentence on what is constant in the data."""
    encoder: Any = policy.encoder
    codec: Any = policy.codec
    if encoder.scale is not None:
        encoder.scale = states
    codec.scale = actions
    return [
        f"{scale.name}: dimensions {scale.still} have one value between their quantiles; they are shifted, not divided"
        for scale in (states, actions)
        if scale.still
    ]


def of_assets(folder: Path, asset: str | None) -> tuple[Mapping[str, Any], str]:
    """The statistics of `assets/ASSET/norm_stats.json` by feature, and the asset's name; none where there are none.

    Raises ConfigError for an asset that there is not, with those present, and where one of several has to be chosen.
    """
    root = folder / "assets"
    present = sorted(str(path.parent.relative_to(root)) for path in root.rglob(NORMS))
    if asset is not None and asset not in present:
        raise ConfigError(
            f"asset: expected one of {', '.join(present) or 'none'}; found {asset!r}{nearest(asset, present)}"
        )
    if asset is None and len(present) > 1:
        raise ConfigError(f"asset: expected one of {', '.join(present)} to be chosen, found none")
    if not present:
        return {}, ""
    name = asset or present[0]
    data = read_object(root / name / NORMS).get("norm_stats")
    if not isinstance(data, Mapping) or not {"state", "actions"} <= {*data}:
        raise ConfigError(f"{root / name / NORMS}: norm_stats: expected state and actions, found {data!r:.80}")
    for key in ("state", "actions"):
        if not isinstance(data[key], Mapping) or not isinstance(data[key].get("mean"), list):
            raise ConfigError(f"{root / name / NORMS}: {key}.mean: expected a list, found {data[key]!r:.80}")
    return data, name


def scales(norms: Mapping[str, Any], config: PiShared) -> tuple[Scaled, Scaled]:
    """Of states and actions, by openpi's formulas."""
    if not norms:
        return unscaled(config)
    widths = (config.input_features[STATE].shape[0], config.output_features[ACTION].shape[0])
    mode: Any = "mean_std" if config.type == "pi0" else "quantiles"
    made = []
    for key, name, width in (("state", STATE, widths[0]), ("actions", ACTION, widths[1])):
        scale, stats = Scaled(width, mode=mode, name=name), dict(norms[key])
        if mode == "mean_std":
            back = {**stats, "std": [value + EPS for value in stats.get("std") or ()]}
            scale.set(stats, back=back, eps=EPS)
        else:
            low, high = (torch.tensor(stats.get(part) or (), dtype=torch.float64) for part in ("q01", "q99"))
            wide = high if low.shape != high.shape else torch.where(high > low, high + EPS, high)
            scale.set({"q01": low, "q99": wide})
        made.append(scale)
    return made[0], made[1]


def unscaled(config: PiShared) -> tuple[Scaled, Scaled]:
    """Of states and actions that pass as they are."""
    widths = (config.input_features[STATE].shape[0], config.output_features[ACTION].shape[0])
    return Scaled(widths[0], mode="identity", name=STATE), Scaled(widths[1], mode="identity", name=ACTION)
