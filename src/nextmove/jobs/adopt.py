"""Parts of a new model initialised from parts of saved ones: `--from SLOT=FOLDER`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from nextmove import store, weights
from nextmove.codecs.fast import Fast
from nextmove.config import ConfigError, nearest
from nextmove.interop.backbones import backbone_weights, backbones, fill_backbone, weights_file
from nextmove.jobs.languages import LANGUAGE, language_folder
from nextmove.jobs.tuned import WHOLE, whole_folder
from nextmove.systems import find

TOKENIZER = "tokenizer"
"""The slot of a spec that holds another model's recipe: a prior is built for its tokenizer (`jobs.tasks.images`)."""

BACKBONE = "backbone"
"""The slot of all cameras' networks, whose weights come as a file or by a name (`interop.backbones`)."""


def slots(start: Sequence[str]) -> dict[str, Path]:
    """SLOT=FOLDER, or a FOLDER alone (slot `tuned.WHOLE`), each slot once and each folder with a model.

    Models are looked for here, before any data are read.

    Raises ConfigError naming what is neither, and FileNotFoundError for a folder without a model.
    """
    found: dict[str, Path] = {}
    for entry in start:
        slot, _, folder = entry.partition("=")
        if "=" not in entry and Path(entry).is_dir():
            slot, folder = WHOLE, entry
        if not slot or not folder:
            raise ConfigError(f"--from: expected SLOT=FOLDER, such as encoder=runs/act, found {entry!r}, no folder")
        if slot in found:
            raise ConfigError(f"--from: expected {slot} once, found it twice")
        found[slot] = Path(folder)
    for slot, place in found.items():
        try:
            if slot == BACKBONE:
                weights_file(place)
            elif slot == LANGUAGE:
                language_folder(place)
            elif slot == WHOLE:
                whole_folder(place)
            else:
                store.read_config(place)
        except (FileNotFoundError, ConfigError) as problem:
            raise type(problem)(f"--from {slot}={place}: {problem}") from None
    return found


def spec_of(system: str, recipe: Any) -> Any:
    """The class of what the system is built for, as its recipe's `build(spec)` says."""
    return get_type_hints((find(system).load()() if recipe is None else recipe).build)["spec"]


def begin(model: nn.Module, start: Mapping[str, Path]) -> dict[str, str | None]:
    """Gives parts of a new model the weights and statistics of the same parts of saved ones; hashes of those by slot.

    Args:
        model: As built and fitted: what is adopted counts, scales included.
        start: Path of modules (`encoder`, `decoder.net`) -> folder of a run or saved model; `backbone` -> weights.

    Raises:
        ConfigError: for a part that one of the two models lacks, or parts that are not built alike, naming the first
            difference.
        FileNotFoundError: for a folder without a model.
    """
    hashes: dict[str, str | None] = {}
    for slot, folder in start.items():
        where = f"--from {slot}={folder}"
        if slot == BACKBONE:
            hashes[slot] = _begin_backbones(model, folder, where)
            continue
        mine, theirs = _part(model, slot, "the model to train", where), _part(store.load(folder), slot, "it", where)
        _check_alike(mine, theirs, where)
        expected, found = ({f"{slot}.{n}": v for n, v in part.state_dict().items()} for part in (mine, theirs))
        if not expected:
            raise ConfigError(f"{where}: expected a part with weights or statistics, found none in {slot}")
        weights.check(expected, found, where=where, whole=slot)
        with torch.no_grad():
            for name, value in expected.items():
                value.copy_(found[name])
        for own, other in zip(mine.modules(), theirs.modules(), strict=True):
            if isinstance(own, Fast) and isinstance(other, Fast):
                own.adopt(other)
        hashes[slot] = store.weights_hash(folder)
        print(f"{slot}: begins with the weights and statistics of {folder}")
    return hashes


def _begin_backbones(model: nn.Module, source: Path, where: str) -> str:
    """Gives every camera's network the weights of a file; the file's hash."""
    tensors, found = backbone_weights(source)
    networks = backbones(model)
    if not networks:
        raise ConfigError(f"{where}: expected a camera with a residual network or EfficientNet-Lite0, found none")
    for name, network in networks.items():
        fill_backbone(network, tensors, where)
        print(f"{name}: begins with the weights of {source}")
    return found


def _part(model: nn.Module, slot: str, whose: str, where: str) -> nn.Module:
    try:
        return model.get_submodule(slot)
    except AttributeError:
        there = [name for name, _ in model.named_modules() if name]
        parts = ", ".join(name for name in there if "." not in name)
        raise ConfigError(
            f"{where}: expected a part of that name in {whose}, found {parts}{nearest(slot, there)}"
        ) from None


def _check_alike(mine: nn.Module, theirs: nn.Module, where: str) -> None:
    """Raises ConfigError for the first module of another class: equal shapes alone do not make equal functions."""

    def classes(part: nn.Module) -> Iterable[tuple[str, str]]:
        return [(name, type(module).__name__) for name, module in part.named_modules()]

    for (name, expected), (other, found) in zip(classes(mine), classes(theirs), strict=False):
        if (name, expected) != (other, found):
            at = name or "the part itself"
            raise ConfigError(f"{where}: {at}: expected {expected}, found {found}{f' at {other}' * (name != other)}")
