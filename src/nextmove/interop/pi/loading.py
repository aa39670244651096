"""Reads a folder of LeRobot's or openpi's that holds pi0 or pi0.5 as a policy of ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import decode, read_object
from nextmove.interop.hf.tensors import read_folder
from nextmove.interop.lerobot.config import ACTION, STATE, Feature, model_folder
from nextmove.interop.pi import layout, statistics, words
from nextmove.interop.pi.composed import recipe, robot
from nextmove.interop.pi.config import KINDS, OpenPi, Pi0Config, Sizes, parse, sizes_of
from nextmove.interop.pi.filling import fill
from nextmove.interop.pi.opening import FPS, assumed, opened
from nextmove.interop.pi.steps import PRE, check_steps
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import building, naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy, PolicySpec

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""openpi's, in order; a robot need not have those of its wrists."""


def load(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    optional: Collection[str] = (),
    sizes: Sizes | None = None,
    scaled: bool = False,
) -> Loaded:
    """The policy of a folder of LeRobot's, or of a training step's folder that holds `pretrained_model`.

    Args:
        folder: With config.json, weights (whole or in shards), processors and, where words are to be read,
            tokenizer.json, which LeRobot's folders have by name only.
        fps: Actions a second, which the folder does not say (30 if not given).
        dtype: Of the weights (`precise`); None: as the file has most of them.
        optional: Cameras that may be absent, beside those that LeRobot calls empty.
        sizes: Of the parts; None: those of the names in config.json.
        scaled: Observations and actions are scaled already: no processors are read.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: naming the key, step, statistic or tensor that is wrong.
    """
    folder = model_folder(folder)
    with naming(folder):
        found = opened(folder, parse, PRE, check_steps, fps=fps, optional=optional, sizes=sizes, scaled=scaled)
        policy, report, names = _filled(folder, found.config, found.sizes, found.spec, dtype, found.version)
        notes = (*report.notes, *found.scale(policy), *found.notes)
        return Loaded(policy, replace(report, notes=notes), found.config, names)


def load_openpi(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    asset: str | None = None,
    sizes: Sizes | None = None,
    told_state: bool = True,
) -> Loaded:
    """The policy of a folder that openpi's conversion to PyTorch has written: config.json, weights and `assets`.

    Its cameras are those of `CAMERAS`. What openpi's data transforms do besides (moves relative to the state, signs of
    joints) is code of the training config, which no folder holds. asset: whose statistics, the name of a folder of
    `assets`, where there are several; told_state: whether pi0.5 reads the state in words (LIBERO's does not); the rest
    and errors as of `load`.
    """
    folder = Path(folder)
    with naming(folder):
        plain = decode(OpenPi, read_object(folder / "config.json"), where="config.json")
        tensors = read_folder(folder, dtype)
        five = any(name.removeprefix("model.").startswith("time_mlp_in.") for name in tensors)
        norms, which = statistics.of_assets(folder, asset)
        config = _described(plain, five, norms)
        own = sizes or sizes_of(plain.paligemma_variant, plain.action_expert_variant)
        own = replace(own, ids=_ids(tensors, own.ids))
        spec = robot(config, [f"observation.images.{name}" for name in CAMERAS[1:]], {}, FPS if fps is None else fps)
        version = "openpi, converted to PyTorch, shown by 'action_horizon'"
        policy, report, names = _filled(folder, config, own, spec, dtype, version, tensors, told_state)
        notes = statistics.give(policy, *statistics.scales(norms, config))
        notes += assumed(fps)
        notes += [f"statistics of {which}" if which else "no assets: states and actions pass as they are"]
        return Loaded(policy, replace(report, notes=(*report.notes, *notes)), config, names)


def _filled(
    folder: Path,
    config: Pi0Config,
    sizes: Sizes,
    spec: PolicySpec,
    dtype: torch.dtype | None,
    version: str,
    tensors: dict[str, Tensor] | None = None,
    told_state: bool = True,
) -> tuple[Policy, Report, dict[str, str]]:
    """The policy with the file's weights, without scales; how it was read, and tensor of the file -> ours."""
    tokenizer = words.tokenizer(folder, sizes.ids)
    own = recipe(config, sizes, spec, clean=tensors is not None, hash=tokenizer.hash)
    if not told_state and config.type == "pi05":
        prompt = replace(own.encoder.prompt, template="{task}\n")
        own = replace(own, encoder=replace(own.encoder, prompt=prompt, state="none"))
    with building():
        policy = own.build(spec)
    policy.card = Card(config.type, policy.recipe, spec)
    read = read_folder(folder, dtype) if tensors is None else tensors
    names, ignored = _given(policy, read, str(folder), dtype)
    notes = []
    if tokenizer.files():
        encoder: Any = policy.encoder
        encoder.tokenizer.adopt(tokenizer)
    else:
        notes.append(
            "no tokenizer.json: put that of google/paligemma-3b-pt-224 into the folder; without it words must come as "
            "ids (ReadingEncoder.prefix)"
        )
    report = Report(config.type, version, tuple(names), ignored, (), tuple(notes))
    return policy.eval(), report, names


def _given(
    policy: Policy, tensors: dict[str, Tensor], where: str, dtype: torch.dtype | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Gives a policy the tensors of a file; tensor of the file -> ours, and those left aside with the reason."""
    spelled = {name.replace("._orig_mod", "").removeprefix("model."): name for name in tensors}
    plain, ignored = layout.tidied(tensors, where=where)
    table = layout.table(policy)
    if layout.EMBEDDING not in spelled and layout.HEAD in spelled:
        spelled[layout.EMBEDDING] = spelled[layout.HEAD]
    names = {spelled.get(piece.name, piece.name): ours for ours, pieces in table.items() for piece in pieces}
    fill(policy, table, plain, where=where, dtype=dtype)
    return names, {spelled.get(name, name): why for name, why in ignored.items()}


def _ids(tensors: Mapping[str, Tensor], default: int) -> int:
    """Rows of the table of embeddings."""
    for name in (layout.EMBEDDING, layout.HEAD):
        for start in ("", "model."):
            if start + name in tensors:
                return len(tensors[start + name])
    return default


def _described(plain: OpenPi, five: bool, norms: Mapping[str, Any]) -> Pi0Config:
    """openpi's config in LeRobot's words."""
    kind = "pi05" if five else "pi0"
    widths = {key: len(norms[key]["mean"]) if key in norms else plain.action_dim for key in ("state", "actions")}
    images = {f"observation.images.{name}": Feature("VISUAL", (3, 224, 224)) for name in CAMERAS}
    data: dict[str, Any] = {
        "type": kind,
        "paligemma_variant": plain.paligemma_variant,
        "action_expert_variant": plain.action_expert_variant,
        "chunk_size": plain.action_horizon,
        "n_action_steps": plain.action_horizon,
        "max_state_dim": plain.action_dim,
        "max_action_dim": plain.action_dim,
        "input_features": {n: asdict(f) for n, f in images.items()},
        "output_features": {ACTION: {"type": "ACTION", "shape": [widths["actions"]]}},
    }
    data["input_features"][STATE] = {"type": "STATE", "shape": [widths["state"]]}
    if not norms:
        data["normalization_mapping"] = {}
    return decode(KINDS[kind], data, where="config.json")
