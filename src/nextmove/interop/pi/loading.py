"""Reads a folder of LeRobot's that holds pi0 or pi0.5 as a policy of ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.interop.hf.tensors import read_folder
from nextmove.interop.lerobot.config import model_folder
from nextmove.interop.pi import layout, words
from nextmove.interop.pi.composed import recipe
from nextmove.interop.pi.config import Pi0Config, Sizes, parse
from nextmove.interop.pi.filling import fill
from nextmove.interop.pi.opening import opened
from nextmove.interop.pi.steps import PRE, check_steps
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import building, naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy, PolicySpec


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
        policy, report, names = filled(folder, found.config, found.sizes, found.spec, dtype, found.version)
        notes = (*report.notes, *found.scale(policy), *found.notes)
        return Loaded(policy, replace(report, notes=notes), found.config, names)


def filled(
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
