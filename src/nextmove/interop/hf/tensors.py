"""Weights of a folder, whole or in shards, and several tensors as the one that our networks pack them into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError, nearest, read_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_folder(folder: Path, dtype: torch.dtype | None = torch.float32) -> dict[str, Tensor]:
    """All tensors of `model.safetensors`, or of the shards its index names, floats as `dtype` (None: the file's).

    Raises FileNotFoundError, or ConfigError for a broken index or file.
    """
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return weights.read(folder / WEIGHTS, dtype=dtype)
    where = read_object(folder / INDEX).get("weight_map")
    if not isinstance(where, dict):
        raise ConfigError(f"{folder / INDEX}: weight_map: expected an object, found {type(where).__name__}")
    found: dict[str, Tensor] = {}
    for file in sorted(set(where.values())):
        if Path(file).name != file:
            raise ConfigError(f"{folder / INDEX}: weight_map: expected files of the folder, found {file!r}")
        found |= weights.read(folder / file, dtype=dtype)
    if found.keys() != where.keys():
        name = min(found.keys() ^ where.keys())
        raise ConfigError(f"{folder / INDEX}: {name}: expected in the index and in its file, found in one")
    return found


@dataclass
class Checkpoint:
    """Tensors on their way to our names: what has been left aside and why, and what has been put together."""

    tensors: dict[str, Tensor]
    where: str
    ignored: dict[str, str] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Packed name -> names of its parts."""
    names: dict[str, str] = field(default_factory=dict)
    """Shortened name -> name in the file."""

    def shorten(self, prefix: str) -> None:
        """Takes `prefix` off the names that begin with it; published files have it or leave it out."""
        self.respell(lambda name: name.removeprefix(prefix))

    def part(self, function: Callable[[str], str | None]) -> Checkpoint:
        """The tensors to which `function` gives a name, under that name; they leave this checkpoint."""
        chosen = {name: new for name in self.tensors if (new := function(name)) is not None}
        names = {new: self.names.get(name, name) for name, new in chosen.items()}
        return Checkpoint({new: self.tensors.pop(name) for name, new in chosen.items()}, self.where, names=names)

    def respell(self, function: Callable[[str], str]) -> None:
        """Gives every tensor the name that `function` makes of its own."""
        names = {function(name): name for name in self.tensors}
        if len(names) < len(self.tensors):
            twice = min(set(self.tensors) - set(names.values()))
            raise ConfigError(f"{self.where}: {twice}: expected once, found again under the name {function(twice)}")
        self.tensors = {name: self.tensors[old] for name, old in names.items()}
        self.names = {name: self.names.get(old, old) for name, old in names.items()}

    def reshape(self, name: str, found: tuple[int, ...], own: tuple[int, ...]) -> None:
        """Gives a tensor, where it is there, our axes; raises ConfigError for another shape than `found`."""
        if name in self.tensors:
            shape = tuple(self.tensors[name].shape)
            if shape != found:
                raise ConfigError(f"{self.where}: {name}: expected shape {found}, found {shape}")
            self.tensors[name] = self.tensors[name].reshape(own)

    def ignore(self, ending: str, why: str, prefix: str = "") -> None:
        """Leaves aside the tensors whose name ends so, of those that begin with `prefix`."""
        for name in [name for name in self.tensors if name.endswith(ending) and name.startswith(prefix)]:
            del self.tensors[name]
            self.ignored[self.names.get(name, name)] = why

    def tie(self, name: str, to: str) -> None:
        """Leaves aside a copy; raises ConfigError if it is none."""
        if name not in self.tensors:
            return
        if to in self.tensors and not torch.equal(self.tensors[name], self.tensors[to]):
            raise ConfigError(f"{self.where}: {name}: expected a copy of {to} (tied), found other values")
        self.ignore(name, f"a copy of {to}, to which it is tied")

    def transpose(self, names: Sequence[str]) -> None:
        """Turns matrices [in, out] into ours, [out, in]."""
        for name in names:
            if name in self.tensors:
                self.tensors[name] = self.tensors[name].mT

    def pack(self, name: str, parts: Mapping[str, tuple[int, ...]]) -> None:
        """Joins tensors of the shapes given along their first dimension; raises ConfigError naming what is wrong."""
        for part, shape in parts.items():
            if part not in self.tensors:
                others = set(self.tensors) - set(parts)
                raise ConfigError(f"{self.where}: missing tensor {part!r}{nearest(part, others)}")
            found = tuple(self.tensors[part].shape)
            if found != shape:
                raise ConfigError(f"{self.where}: {part}: expected shape {shape}, found {found}")
        self.tensors[name] = torch.cat([self.tensors.pop(part) for part in parts])
        self.parts[name] = tuple(parts)

    def split(self, name: str, parts: Mapping[str, int]) -> None:
        """Cuts a tensor, where it is there, into parts of so many rows; raises ConfigError for another number."""
        if name not in self.tensors:
            return
        whole, rows = self.tensors.pop(name), list(parts.values())
        if len(whole) != sum(rows):
            raise ConfigError(f"{self.where}: {name}: expected {sum(rows)} rows, found {len(whole)}")
        self.tensors |= dict(zip(parts, torch.split(whole, rows), strict=True))
        self.names |= dict.fromkeys(parts, self.names.get(name, name))

    def used(self, names: Mapping[str, str]) -> dict[str, str]:
        """Tensor of the file -> our name, packed ones one by one."""
        parts = {part: ours for name, ours in names.items() for part in self.parts.get(name, (name,))}
        return {self.names.get(part, part): ours for part, ours in parts.items()}
