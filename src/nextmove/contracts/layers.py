"""What a stream of transformer blocks is made of, as tensors and plain values that another runtime can build it from.

Shapes: B batch, L queries, S keys, N outputs, K inputs, W width, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nextmove.contracts.memory import Memory


@dataclass(frozen=True, eq=False)
class NormParts:
    """A norm over the last axis; `centred`: the mean is taken out (layer norm)."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    centred: bool


class PackedRows(Protocol):
    """Rows of weights as a file packs them (`weights.packed.Packed`)."""

    @property
    def kind(self) -> str:
        """Name of the format."""
        ...

    @property
    def raw(self) -> Tensor:
        """(N, bytes of a row) uint8."""
        ...

    @property
    def blocks(self) -> Tensor:
        """(N, blocks of a row, bytes of a block) uint8."""
        ...

    def values(self) -> Tensor:
        """(N, K) float32."""
        ...


class Product:
    """A linear map of weights (N, K) and, where there is one, a bias (N,)."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None = None, packed: Sequence[PackedRows] = ()) -> None:
        """packed: the weights as a file packs them, one part behind another, where they are kept so and not as one."""
        self._weight, self.bias, self.packed = weight, bias, packed

    @property
    def weight(self) -> Tensor:
        """(N, K), unpacked anew at every call where it is packed."""
        if self._weight is not None:
            return self._weight
        return torch.cat([part.values() for part in self.packed])

    @property
    def kept(self) -> list[Tensor]:
        """The tensors that it is made of."""
        given = [*(part.raw for part in self.packed), self._weight, self.bias]
        return [x for x in given if x is not None]


@dataclass(frozen=True, eq=False)
class AttentionParts:
    """Self-attention with queries, keys and values packed in this order."""

    inward: Product
    outward: Product
    heads: int
    shared: int
    """Heads of keys and values."""
    width: int
    """E."""
    scale: float
    cap: float
    window: int
    """Keys a query reads at most; 0 = all."""
    rotary: int
    """Which of the stream's angles turn queries and keys; -1 = none."""
    query_norm: NormParts | None
    key_norm: NormParts | None


@dataclass(frozen=True, eq=False)
class FeedForwardParts:
    """down(activation(up(x))), or with half of up's outputs as the gate of the other half."""

    up: Product
    down: Product
    activation: str
    gate: str
    """"first" or "second" half; "" = dense."""


@dataclass(frozen=True, eq=False)
class BranchParts:
    """What stands before a part and what its answer goes through before it is added."""

    norm: NormParts
    post_norm: NormParts | None
    scale: Tensor | None


@dataclass(frozen=True, eq=False)
class LayerParts:
    """One block."""

    attention_branch: BranchParts
    attention: AttentionParts
    feedforward_branch: BranchParts
    feedforward: FeedForwardParts


@dataclass(frozen=True, eq=False)
class StreamParts:
    """Blocks in a row and the norm behind them."""

    width: int
    layers: tuple[LayerParts, ...]
    norm: NormParts | None


@dataclass(frozen=True, eq=False)
class Bearings:
    """Where the tokens of a call stand: what their blocks read besides them."""

    angles: Sequence[tuple[Tensor, Tensor]]
    """Cosines and sines (L, E / 2) or (B, L, E / 2) of each rotation."""
    masks: dict[int, Tensor | None]
    """By window, what broadcasts to (B, heads, L, S): bool, or numbers that are added; None = all keys."""
    mask: Tensor | None
    """(B, S) bool of the memory afterwards, False for padding; None if there is none."""
    count: Tensor
    """(B,) integers, the position of the next token."""


class Layered(Protocol):
    """A stream that says what it is made of."""

    def parts(self) -> StreamParts:
        """All of its tensors; raises ValueError naming what has no place there."""
        ...

    def bearings(
        self, x: Tensor, positions: Tensor | None, mask: Any, memory: Memory | None, valid: Tensor | None
    ) -> Bearings:
        """What a call with these arguments reads besides x (B, L, W)."""
        ...


class Spoken(Protocol):
    """A network over ids: a stream, then a linear map to logits, for which another module may stand as `head`."""

    stream: nn.Module
    head: nn.Module | None

    def spoken(self) -> Product:
        """The linear map."""
        ...
