"""Weights kept as a file packs them, unpacked where they are used: a quarter of the memory or less, the same numbers.

By torch a use costs the unpacking; a runtime unpacks them once, into its own form. Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nextmove.weights.packed import Packed


class Unpacked(nn.Module):
    """A weight as the values of packed parts, one behind another along the first dimension."""

    def __init__(self, parts: Sequence[Packed]) -> None:
        super().__init__()
        self.kinds, self.shapes = [part.kind for part in parts], [part.shape for part in parts]
        for i, part in enumerate(parts):
            self.register_buffer(f"part{i}", part.raw)

    def forward(self, _: Tensor) -> Tensor:
        """(N, ...) float32; what it is given only says that the weight is there."""
        values = [part.values() for part in self.parts()]
        return values[0] if len(values) == 1 else torch.cat(values)

    def parts(self) -> list[Packed]:
        """What it unpacks."""
        rows = zip(self.kinds, self.shapes, self.buffers(), strict=True)
        return [Packed(kind, shape, raw) for kind, shape, raw in rows]


class PackedEmbedding(nn.Module):
    """Unpacks the rows that are looked up; `weight` is all of them."""

    def __init__(self, table: Packed) -> None:
        super().__init__()
        self.kind, self.shape = table.kind, table.shape
        self.register_buffer("raw", table.raw)

    @property
    def weight(self) -> Tensor:
        """(N, W) float32."""
        raw: Tensor = self.get_buffer("raw")
        return Packed(self.kind, self.shape, raw).values()

    def forward(self, ids: Tensor) -> Tensor:
        """Rows (..., W) of ids (...)."""
        raw = self.get_buffer("raw")[ids.flatten()]
        return Packed(self.kind, (ids.numel(), *self.shape[1:]), raw).values().view(*ids.shape, -1)


def packed_parts(module: nn.Module, name: str) -> list[Packed]:
    """The parts of a weight that is kept packed, by its name in its module; none of any other."""
    if isinstance(module, PackedEmbedding) and name == "weight":
        return [Packed(module.kind, module.shape, module.get_buffer("raw"))]
    if not parametrize.is_parametrized(module, name):
        return []
    (kept,) = module.parametrizations[name]  # type: ignore[index]
    return kept.parts() if isinstance(kept, Unpacked) else []


def keep_packed(net: nn.Module, packed: Mapping[str, Sequence[Packed]]) -> int:
    """Puts packed parts in the place of parameters, by their names; how many bytes they take.

    Raises ValueError where the parts have not the parameter's shape, naming it.
    """
    for name, parts in packed.items():
        path, _, own = name.rpartition(".")
        module = net.get_submodule(path)
        expected, rows = tuple(module.get_parameter(own).shape), sum(part.shape[0] for part in parts)
        if (rows, *parts[0].shape[1:]) != expected:
            raise ValueError(f"{name}: expected shape {expected}, found {(rows, *parts[0].shape[1:])}")
        if isinstance(module, nn.Embedding) and len(parts) == 1:
            above, _, last = path.rpartition(".")
            setattr(net.get_submodule(above), last, PackedEmbedding(parts[0]))
            continue
        # What it stood for is only a place now.
        setattr(module, own, nn.Parameter(torch.empty(expected, device="meta"), requires_grad=False))
        parametrize.register_parametrization(module, own, Unpacked(parts), unsafe=True)
    return sum(part.nbytes for parts in packed.values() for part in parts)
