"""A memory whose keys and values lie in one piece, behind which the next tokens are written.

Shapes: B = 1 text, P tokens remembered, E width of a head.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import KeyValue, Memory

LEAST, MORE = 256, 128
"""Tokens that there is room for at first, and behind those that are read."""


class Shelf:
    """Keys and values (layers, 2, heads, room, E) of one text, of which `length` tokens are written."""

    def __init__(self, layers: int, heads: int, room: int, width: int) -> None:
        self.data = np.zeros((layers, 2, heads, room, width), np.float32)
        self.length = 0

    @property
    def room(self) -> int:
        """Tokens that it can hold."""
        return self.data.shape[3]


class Shelved(Memory):
    """The first tokens of a shelf."""

    def __init__(self, shelf: Shelf, length: int, mask: Tensor | None, count: Tensor) -> None:
        for name, value in (("mask", mask), ("count", count), ("_spare", []), ("_held", (shelf, length))):
            object.__setattr__(self, name, value)

    @property
    def held(self) -> tuple[Shelf, int]:
        """The shelf, and how many of its tokens."""
        return cast(tuple[Shelf, int], self._held)  # type: ignore[attr-defined]

    @property
    def length(self) -> int:
        """P."""
        return self.held[1]

    @property
    def layers(self) -> tuple[KeyValue | None, ...]:
        """Views: what is written is not written again."""
        shelf, length = self.held
        pairs = torch.from_numpy(shelf.data)[:, :, None, :, :length]
        return tuple(KeyValue(keys, values) for keys, values in pairs)

    def room(self, n: int) -> Memory:
        """Itself: every call goes on from it as it is."""
        return self


def shelf_for(memory: Memory | None, new: int, layers: int, heads: int, width: int) -> Shelf:
    """Where the next tokens are written: the memory's own shelf, if it is the newest there and there is room."""
    before = 0 if memory is None else memory.length
    own = memory.held[0] if isinstance(memory, Shelved) else None
    if own is not None and own.length == before and before + new <= own.room:
        return own
    shelf = Shelf(layers, heads, max(LEAST, before + new + max(MORE, before // 2)), width)
    if own is not None:
        shelf.data[:, :, :, :before] = own.data[:, :, :, :before]
    elif memory is not None:
        for i, layer in enumerate(cast(tuple[Any, ...], memory.layers)):
            shelf.data[i, 0, :, :before], shelf.data[i, 1, :, :before] = layer.keys[0].numpy(), layer.values[0].numpy()
    return shelf
