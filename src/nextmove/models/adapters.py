"""Adapters (`nn.lora`) saved apart from the model that they belong to, whose checksum they carry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from nextmove.config import ConfigError, decode
from nextmove.nn import lora
from nextmove.nn.lora import Lora
from nextmove.weights import check, digest, read, write
from nextmove.weights.files import read_metadata

CONFIG, BASE = "lora", "base"
"""Keys of the file's metadata."""


def checksum(model: nn.Module) -> str:
    """Of the parameters that are no adapter's: names, dtypes, shapes and values; hexadecimal."""
    whole = hashlib.blake2b(digest_size=16)
    for name, value in sorted(lora.base(model).items()):
        whole.update(f"{name} {digest(value)}\n".encode())
    return whole.hexdigest()


def save(model: nn.Module, path: Path | str, config: Lora) -> None:
    """Writes a model's adapters, and nothing else of it, into one safetensors file.

    config: as they were made. Raises ValueError for a model without adapters, OSError for a file that cannot be.
    """
    tensors = lora.state(model)
    if not tensors:
        raise ValueError("model: expected one with adapters (nn.lora.adapt), found none")
    write(Path(path), tensors, {CONFIG: json.dumps(asdict(config)), BASE: checksum(model)})


@torch.no_grad()
def load(model: nn.Module, path: Path | str) -> Lora:
    """Puts the adapters of a file onto a model, which is frozen but for them.

    Raises FileNotFoundError, ConfigError for a file of something else or of another model's adapters, and ValueError
    for a model that has some.
    """
    path = Path(path)
    tensors, notes = read(path), read_metadata(path)
    if not {CONFIG, BASE} <= notes.keys():
        raise ConfigError(f"{path}: expected adapters, with {CONFIG} and {BASE} in the metadata, found {sorted(notes)}")
    found = checksum(model)
    if found != notes[BASE]:
        raise ConfigError(
            f"{path}: expected the model of checksum {notes[BASE]}, whose adapters they are, found {found}"
        )
    config = decode(Lora, json.loads(notes[CONFIG]), where=str(path))
    lora.adapt(model, config)
    own = lora.state(model)
    try:
        check(own, tensors, where=str(path), finite=True)
    except ConfigError:
        lora.remove(model)
        raise
    for name, value in own.items():
        value.copy_(tensors[name])
    return config
