"""The memory of a transformer: the keys and values of every layer for the tokens it has read.

Shapes: B batch, P tokens remembered, L new tokens, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

RecurrentState = tuple[tuple[Tensor, Tensor], ...]
"""What a recurrent network carries on; a transformer carries a `Memory`."""


@dataclass(frozen=True)
class MemorySpec:
    """The sizes of a memory that a network may rely on: layers, heads of keys and values, and their width."""

    layers: int
    n_kv_heads: int
    head_dim: int


class KvBuffer:
    """Buffers (B, heads, more than P, E) for keys and values, and how many positions their newest view shows.

    rewinds: whether positions behind a view may be written again although a later view shows them.
    """

    def __init__(self, keys: Tensor, values: Tensor, size: int, rewinds: bool) -> None:
        shape = (*keys.shape[:2], size, keys.shape[3])
        self.keys, self.values = keys.new_empty(shape), values.new_empty(shape)
        self.size, self.length, self.rewinds = size, 0, rewinds

    def usable(self) -> bool:
        """Whether it can be written to: what inference mode made cannot outside of it."""
        return not self.keys.is_inference() or torch.is_inference_mode_enabled()

    def write(self, start: int, keys: Tensor, values: Tensor) -> KeyValue:
        """The first positions up to the new ones, which are written from `start` on."""
        length, mine, held = keys.shape[2], self.keys, self.values
        mine.narrow(2, start, length).copy_(keys)
        held.narrow(2, start, length).copy_(values)
        self.length = end = start + length
        return KeyValue(mine.narrow(2, 0, end), held.narrow(2, 0, end), self)


# Not frozen, for one is made at every layer of every step, and frozen ones take longer.
@dataclass(eq=False, slots=True)
class KeyValue:
    """Keys and values (B, heads, P, E) of one layer, where there is a room the beginning of its buffers."""

    keys: Tensor
    values: Tensor
    buffer: KvBuffer | None = None

    @property
    def length(self) -> int:
        """P."""
        return self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> KeyValue:
        """These, then the new ones (B, heads, L, E).

        Without gradients the new ones are written behind the old, which are copied only where there is no room yet or
        another call has written there; nothing the caller holds changes, unless the room rewinds. Raises ValueError
        where a room that rewinds has no space for them.
        """
        start = self.keys.shape[2]
        end = start + keys.shape[2]
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or self.keys.dtype != keys.dtype:
            return KeyValue(
                torch.cat([self.keys.to(keys), keys], 2), torch.cat([self.values.to(values), values], 2)
            )  # fmt: skip
        buffer = self.buffer
        usable = buffer is not None and buffer.usable()
        if buffer is not None and buffer.rewinds and usable:
            if end > buffer.size:
                raise ValueError(
                    f"memory: expected at most {buffer.size - start} tokens behind it, found {end - start}"
                )
        elif buffer is None or buffer.length != start or end > buffer.size or not usable:
            buffer = KvBuffer(self.keys, self.values, end + max(64, end // 2), False)
            buffer.write(0, self.keys, self.values)
        return buffer.write(start, keys, values)


@dataclass(frozen=True, eq=False)
class Memory:
    """Keys and values of a prefix, apart from the state that a network carries of its own output.

    layers: of each layer, None where it has no self-attention; mask: (B, P) bool, False for padding, None if there is
    none; count: (B,) integers, the position of the next token (without padding P).
    """

    layers: tuple[KeyValue | None, ...]
    mask: Tensor | None
    count: Tensor
    _spare: list[Memory] = field(default_factory=list, init=False, repr=False)

    @property
    def length(self) -> int:
        """P."""
        for layer in self.layers:
            if layer is not None:
                return layer.keys.shape[2]
        return 0

    def room(self, n: int) -> Memory:
        """The same with space for n tokens behind it, into which each call writes anew: nothing is copied again.

        Made once, at the first call, however often it is asked for; a result of an earlier call is overwritten by the
        next. With gradients enabled it is this memory, to which calls append copies.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self
        for found in (self, *self._spare):
            buffers = [layer.buffer for layer in found.layers if layer is not None]
            if all(r is not None and r.rewinds and r.usable() and r.size >= self.length + n for r in buffers):
                return found

        def wide(layer: KeyValue) -> KeyValue:
            return KvBuffer(layer.keys, layer.values, layer.length + n, True).write(0, layer.keys, layer.values)

        layers = tuple(None if layer is None else wide(layer) for layer in self.layers)
        self._spare[:] = [replace(self, layers=layers)]
        return self._spare[0]

    def first(self, length: int) -> Memory:
        """The memory of the first `length` positions, of which those behind are no padding."""

        def one(layer: KeyValue | None) -> KeyValue | None:
            return None if layer is None else KeyValue(layer.keys[:, :, :length], layer.values[:, :, :length])

        mask = None if self.mask is None else self.mask[:, :length]
        return Memory(tuple(map(one, self.layers)), mask, self.count - (self.length - length))

    def map(self, function: Callable[[Tensor], Tensor]) -> Memory:
        """A copy with `function` applied to every tensor; mask and count keep their types."""

        def one(layer: KeyValue | None) -> KeyValue | None:
            return None if layer is None else KeyValue(function(layer.keys), function(layer.values))

        mask = None if self.mask is None else function(self.mask).to(self.mask.dtype)
        return Memory(tuple(map(one, self.layers)), mask, function(self.count).to(self.count.dtype))

    def join(self, other: Memory, function: Callable[[Tensor, Tensor], Tensor]) -> Memory:
        """`function` of every tensor and the other's; raises ValueError where they have other layers."""
        if [layer is None for layer in self.layers] != [layer is None for layer in other.layers]:
            raise ValueError(f"memory.layers: expected the same {len(self.layers)} in both, found {len(other.layers)}")

        def one(mine: KeyValue | None, theirs: KeyValue | None) -> KeyValue | None:
            if mine is None or theirs is None:
                return None
            return KeyValue(function(mine.keys, theirs.keys), function(mine.values, theirs.values))

        mask = None
        if self.mask is not None or other.mask is not None:
            mask = function(self.valid, other.valid)
        layers = tuple(one(*pair) for pair in zip(self.layers, other.layers, strict=True))
        return Memory(layers, mask, function(self.count, other.count))

    @property
    def valid(self) -> Tensor:
        """The mask (B, P), all True where there is none."""
        return self.count.new_ones(len(self.count), self.length, dtype=torch.bool) if self.mask is None else self.mask
