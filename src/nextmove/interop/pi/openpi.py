"""Reads a folder of openpi's that holds pi0 or pi0.5: as converted to PyTorch, or JAX's tree itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError, decode, read_object
from nextmove.interop.hf.tensors import read_folder
from nextmove.interop.lerobot.config import ACTION, STATE, Feature
from nextmove.interop.pi import layout, statistics, tree
from nextmove.interop.pi.composed import robot
from nextmove.interop.pi.config import KINDS, OpenPi, Pi0Config, Sizes, sizes_of
from nextmove.interop.pi.loading import filled
from nextmove.interop.pi.opening import FPS, assumed
from nextmove.interop.report import Loaded
from nextmove.interop.weights import naming

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""openpi's, in order; a robot need not have those of its wrists."""
HORIZON = 50
"""Actions of a chunk where nothing says it, as of openpi's configs."""


@dataclass(frozen=True)
class Opened:
    """What a folder of openpi's holds, its tensors by openpi's names in PyTorch."""

    plain: OpenPi
    tensors: dict[str, Tensor]
    sizes: Sizes
    version: str
    notes: tuple[str, ...] = ()


def opened(folder: Path, dtype: torch.dtype | None, sizes: Sizes | None, horizon: int, usual: int) -> Opened:
    """A folder of either form; horizon: actions of a chunk, 0 = what config.json says, else the `usual` number.

    Raises FileNotFoundError, or ConfigError naming the key or tensor that is wrong.
    """
    found = tree.place(folder)
    if found is None:
        plain = decode(OpenPi, read_object(folder / "config.json"), where="config.json")
        if horizon and horizon != plain.action_horizon:
            raise ConfigError(f"horizon: expected config.json's {plain.action_horizon}, found {horizon}; leave it out")
        tensors = read_folder(folder, dtype)
        own = sizes or sizes_of(plain.paligemma_variant, plain.action_expert_variant)
        version = "openpi, converted to PyTorch, shown by 'action_horizon'"
        return Opened(plain, tensors, replace(own, ids=_ids(tensors, own.ids)), version)
    tensors, own = tree.read(found, dtype)
    moves = tensors.get("action_in_proj.weight")
    plain = OpenPi(OpenPi.action_dim if moves is None else moves.shape[1], horizon or usual)
    notes = () if horizon else (f"horizon: the folder does not say, {usual} assumed",)
    return Opened(plain, tensors, own, "openpi, JAX's tree", notes)


def load_openpi(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    asset: str | None = None,
    sizes: Sizes | None = None,
    told_state: bool = True,
    horizon: int = 0,
) -> Loaded:
    """The policy of openpi's: config.json, weights and `assets` of its conversion to PyTorch, or `params` and `assets`.

    Its cameras are those of `CAMERAS`. What openpi's data transforms do besides (moves relative to the state, signs of
    joints) is code of the training config, which no folder holds. asset: whose statistics, the name of a folder of
    `assets`, where there are several; told_state: whether pi0.5 reads the state in words (LIBERO's does not); horizon:
    actions of a chunk, which JAX's trees do not say (50 if not given); the rest and errors as of `load`. JAX's trees
    (`weights.orbax`) are read by tensorstore, their sizes are those of their arrays, and they are held twice meanwhile.
    """
    folder = Path(folder)
    with naming(folder):
        found = opened(folder, dtype, sizes, horizon, HORIZON)
        five = any(name.removeprefix("model.").startswith("time_mlp_in.") for name in found.tensors)
        norms, which = statistics.of_assets(folder, asset)
        config = described(found.plain, "pi05" if five else "pi0", norms, CAMERAS)
        optional = [f"observation.images.{name}" for name in CAMERAS[1:]]
        spec = robot(config, optional, {}, FPS if fps is None else fps)
        policy, report, names = filled(
            folder, config, found.sizes, spec, dtype, found.version, found.tensors, told_state
        )
        notes = statistics.give(policy, *statistics.scales(norms, config))
        notes += assumed(fps)
        notes += [f"statistics of {which}" if which else "no assets: states and actions pass as they are"]
        return Loaded(policy, replace(report, notes=(*report.notes, *found.notes, *notes)), config, names)


def _ids(tensors: Mapping[str, Tensor], default: int) -> int:
    """Rows of the table of embeddings."""
    for name in (layout.EMBEDDING, layout.HEAD):
        for start in ("", "model."):
            if start + name in tensors:
                return len(tensors[start + name])
    return default


def described(plain: OpenPi, kind: str, norms: Mapping[str, Any], cameras: tuple[str, ...]) -> Pi0Config:
    """openpi's config in LeRobot's words."""
    return decode(KINDS[kind], shared(plain, kind, norms, cameras), where="config.json")


def shared(plain: OpenPi, kind: str, norms: Mapping[str, Any], cameras: tuple[str, ...]) -> dict[str, Any]:
    """What config.json of LeRobot's would say of openpi's folder."""
    widths = {key: len(norms[key]["mean"]) if key in norms else plain.action_dim for key in ("state", "actions")}
    inputs = {f"observation.images.{name}": asdict(Feature("VISUAL", (3, 224, 224))) for name in cameras}
    data: dict[str, Any] = {
        "type": kind,
        "paligemma_variant": plain.paligemma_variant,
        "action_expert_variant": plain.action_expert_variant,
        "chunk_size": plain.action_horizon,
        "n_action_steps": plain.action_horizon,
        "max_state_dim": plain.action_dim,
        "max_action_dim": plain.action_dim,
        "input_features": {**inputs, STATE: {"type": "STATE", "shape": [widths["state"]]}},
        "output_features": {ACTION: {"type": "ACTION", "shape": [widths["actions"]]}},
    }
    if not norms:
        data["normalization_mapping"] = {}
    return data
