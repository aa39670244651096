"""One tower of another project: our network, and the names and shapes that its tensors have in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.weights import renamed


@dataclass(frozen=True)
class Packed:
    """Matrices of one block that our networks hold as one, in this order."""

    whole: str
    """The name that a tower's table gives the whole."""
    parts: tuple[str, ...]
    rows: int
    """Of each part."""
    columns: int = 0
    """0 = only the biases are packed."""
    bias: bool = True

    def pack(self, checkpoint: Checkpoint, block: str) -> None:
        """Packs those of a block; raises ConfigError naming a part that is missing or misshapen."""
        if self.columns:
            shape = (self.rows, self.columns)
            checkpoint.pack(f"{block}.{self.whole}.weight", {f"{block}.{name}.weight": shape for name in self.parts})
        if self.bias:
            checkpoint.pack(f"{block}.{self.whole}.bias", {f"{block}.{name}.bias": (self.rows,) for name in self.parts})


@dataclass(frozen=True)
class Tower:
    """A tower of one family, by names that are relative to it."""

    config: Any
    """The foreign configuration, checked."""
    build: Callable[[], nn.Module]
    """Our network."""
    layers: int
    names: Mapping[str, str]
    """Ours -> theirs, outside the blocks; beginnings of names."""
    blocks: str
    """What stands before a block's number."""
    inside: Mapping[str, str]
    """Ours -> theirs, within a block."""
    packed: tuple[Packed, ...] = ()
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None
    """Theirs -> shape in the file and shape of ours, where these differ by axes of length 1."""
    aside: tuple[str, ...] = ()
    """Keys of the configuration that change no numbers."""
    ignored: Mapping[str, str] | None = None
    """Endings of names that are left aside -> why."""

    def foreign(self, name: str) -> str | None:
        """The name in the file of one of our tensors, packed ones under a name of their own."""
        return named(name, self.names, self.blocks, self.inside)

    def pack(self, checkpoint: Checkpoint, prefix: str = "") -> None:
        """Brings the tensors behind `prefix` into our shapes; raises ConfigError naming one that is wrong."""
        for ending, why in (self.ignored or {}).items():
            checkpoint.ignore(ending, why, prefix)
        for layer in range(self.layers):
            for group in self.packed:
                group.pack(checkpoint, f"{prefix}{self.blocks}.{layer}")
        for name, (found, own) in (self.shapes or {}).items():
            checkpoint.reshape(prefix + name, found, own)


def named(name: str, names: Mapping[str, str], blocks: str, inside: Mapping[str, str]) -> str | None:
    """The name in a file of one of our tensors, by the tables that a `Tower` has."""
    start, _, rest = name.partition("stream.blocks.")
    if start or not rest:
        return renamed(name, names)
    index, _, rest = rest.partition(".")
    found = renamed(rest, inside)
    return None if found is None else f"{blocks}.{index}.{found}"


POSITION_IDS = {".position_ids": "positions counted from 0, which are computed"}


def heads(names: str, width: int, rows: int = 0) -> Packed:
    """Queries, keys and values of self-attention with biases: `names` as "self_attn.qkv q_proj k_proj v_proj"."""
    whole, *parts = names.split()
    where = whole.rpartition(".")[0]
    return Packed(whole, tuple(f"{where}.{part}" for part in parts), rows or width, width)
