"""Matrices as files pack them: rows of blocks, each some numbers in few bits and what scales them.

The formats and their names are llama.cpp's (ggml-quants.c). A row of K values is K / `values` blocks of `size` bytes,
so rows may be joined, permuted and cut without unpacking. Shapes: N blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

AT_ONCE = 2**20
"""Values unpacked at once, so that unpacking takes little memory beside its result."""
HALVES, QUARTERS, BITS = (0, 4), (0, 2, 4, 6), tuple(range(8))
NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What four bits stand for in the formats IQ4."""


class Format(NamedTuple):
    """How many values a block holds in how many bytes, and the values (N, values) float32 of blocks (N, size) uint8."""

    values: int
    size: int
    unpack: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor in one of the `FORMATS`."""

    kind: str
    """Name of the format."""
    shape: tuple[int, ...]
    raw: Tensor
    """Its bytes (*shape[:-1], bytes of a row) uint8; of a file they are its pages, read when touched."""

    @property
    def format(self) -> Format:
        """Of its blocks."""
        return FORMATS[self.kind]

    @property
    def blocks(self) -> Tensor:
        """(*shape[:-1], blocks of a row, bytes of a block) uint8."""
        return self.raw.view(*self.shape[:-1], -1, self.format.size)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.raw.nbytes

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The numbers, of its shape, in memory of their own; unpacked in float32."""
        _, size, unpack = self.format
        out = torch.empty(self.shape, dtype=dtype)
        flat, blocks = out.view(-1), self.raw.reshape(-1, size)
        if self.kind in PLAIN:
            return out.copy_(blocks.view(-1).view(PLAIN[self.kind]).view(self.shape))
        step = max(1, AT_ONCE // self.format.values)
        for i in range(0, len(blocks), step):
            part = unpack(blocks[i : i + step])
            flat[i * self.format.values :][: part.numel()].view(part.shape).copy_(part)
        return out

    def rows(self, order: Tensor) -> Packed:
        """The rows `order` of its first dimension, in this order."""
        picked = self.raw[order]
        return Packed(self.kind, (len(picked), *self.shape[1:]), picked)

    def cut(self, first: int, count: int) -> Packed:
        """`count` rows from `first` on, without a copy."""
        return Packed(self.kind, (count, *self.shape[1:]), self.raw[first : first + count])


def joined(parts: Sequence[Packed]) -> Packed:
    """Tensors of one format, one behind another along their first dimension; raises ValueError for several formats."""
    kinds = {part.kind for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"parts: expected one format, found {', '.join(sorted(kinds))}")
    count = sum(part.shape[0] for part in parts)
    return Packed(parts[0].kind, (count, *parts[0].shape[1:]), torch.cat([part.raw for part in parts]))


def row_bytes(kind: str, length: int) -> int:
    """Bytes of a row of so many values; raises ValueError where they do not fill blocks."""
    values, size, _ = FORMATS[kind]
    if length % values:
        raise ValueError(f"expected a multiple of the {values} values of a block of {kind} in a row, found {length}")
    return length // values * size


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at a byte of each block: (N, 1) float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _signed(blocks: Tensor) -> Tensor:
    return blocks.contiguous().view(torch.int8).float()


def _fields(part: Tensor, run: int, shifts: Sequence[int], mask: int) -> Tensor:
    """Fields of few bits (N, .) in the order of the formats: of every `run` bytes the lowest of all, then the next."""
    moves = torch.tensor(shifts, dtype=torch.uint8)[:, None]
    return ((part.reshape(len(part), -1, 1, run) >> moves) & mask).flatten(1)


def _high(blocks: Tensor, at: int) -> Tensor:
    """Fifth bits (N, 32), value j's the bit j of four bytes."""
    moves = torch.tensor(BITS, dtype=torch.uint8)
    return ((blocks[:, at : at + 4, None] >> moves) & 1).flatten(1) << 4


def _grouped(numbers: Tensor, scales: Tensor) -> Tensor:
    """Numbers (N, values) as (N, groups, values of a group) float32."""
    return numbers.float().view(len(numbers), scales.shape[1], -1)


def _q4_0(b: Tensor) -> Tensor:
    return _half(b, 0) * (_fields(b[:, 2:], 16, HALVES, 15).float() - 8)


def _q4_1(b: Tensor) -> Tensor:
    return _half(b, 0) * _fields(b[:, 4:], 16, HALVES, 15).float() + _half(b, 2)


def _q5_0(b: Tensor) -> Tensor:
    return _half(b, 0) * ((_fields(b[:, 6:], 16, HALVES, 15) | _high(b, 2)).float() - 16)


def _q5_1(b: Tensor) -> Tensor:
    return _half(b, 0) * (_fields(b[:, 8:], 16, HALVES, 15) | _high(b, 4)).float() + _half(b, 2)


def _q8_0(b: Tensor) -> Tensor:
    return _half(b, 0) * _signed(b[:, 2:])


def _q2_k(b: Tensor) -> Tensor:
    scales = b[:, :16]
    d, least = _half(b, 80) * (scales & 15).float(), _half(b, 82) * (scales >> 4).float()
    numbers = _grouped(_fields(b[:, 16:80], 32, QUARTERS, 3), scales)
    return (d[..., None] * numbers - least[..., None]).flatten(1)


def _q3_k(b: Tensor) -> Tensor:
    scales = _fields(b[:, 96:104], 8, HALVES, 15) | (_fields(b[:, 104:108], 4, QUARTERS, 3) << 4)
    d = _half(b, 108) * (scales.float() - 32)
    numbers = _fields(b[:, 32:96], 32, QUARTERS, 3).float() - 4 * (1 - _fields(b[:, :32], 32, BITS, 1).float())
    return (d[..., None] * _grouped(numbers, scales)).flatten(1)


def _scaled_k(b: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and least value (N, 8, 1) of each group of 32, of six bits each."""
    d, m, high = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scales = torch.cat([d & 63, (high & 15) | ((d >> 2) & 48)], 1).float()
    least = torch.cat([m & 63, (high >> 4) | ((m >> 2) & 48)], 1).float()
    return (_half(b, 0) * scales)[..., None], (_half(b, 2) * least)[..., None]


def _q4_k(b: Tensor) -> Tensor:
    d, least = _scaled_k(b)
    return (d * _grouped(_fields(b[:, 16:], 32, HALVES, 15), d) - least).flatten(1)


def _q5_k(b: Tensor) -> Tensor:
    d, least = _scaled_k(b)
    numbers = _fields(b[:, 48:], 32, HALVES, 15) | (_fields(b[:, 16:48], 32, BITS, 1) << 4)
    return (d * _grouped(numbers, d) - least).flatten(1)


def _q6_k(b: Tensor) -> Tensor:
    numbers = _fields(b[:, :128], 64, HALVES, 15) | (_fields(b[:, 128:192], 32, QUARTERS, 3) << 4)
    d = _half(b, 208) * _signed(b[:, 192:208])
    return (d[..., None] * _grouped(numbers.float() - 32, d)).flatten(1)


def _nonlinear(numbers: Tensor) -> Tensor:
    return torch.tensor(NONLINEAR, dtype=torch.float32)[numbers.long()]


def _iq4_nl(b: Tensor) -> Tensor:
    return _half(b, 0) * _nonlinear(_fields(b[:, 2:], 16, HALVES, 15))


def _iq4_xs(b: Tensor) -> Tensor:
    low = _fields(b[:, 4:8], 1, HALVES, 15)
    high = _fields(b[:, 2:4], 1, QUARTERS, 3)
    d = _half(b, 0) * ((low | (high << 4)).float() - 32)
    return (d[..., None] * _grouped(_nonlinear(_fields(b[:, 8:], 16, HALVES, 15)), d)).flatten(1)


PLAIN = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip
"""Formats of one number a block."""


def _number(kind: torch.dtype) -> Format:
    return Format(1, kind.itemsize, lambda b: b.contiguous().view(kind).float())


FORMATS: dict[str, Format] = {name: _number(kind) for name, kind in PLAIN.items()} | {
    "Q4_0": Format(32, 18, _q4_0),
    "Q4_1": Format(32, 20, _q4_1),
    "Q5_0": Format(32, 22, _q5_0),
    "Q5_1": Format(32, 24, _q5_1),
    "Q8_0": Format(32, 34, _q8_0),
    "Q2_K": Format(256, 84, _q2_k),
    "Q3_K": Format(256, 110, _q3_k),
    "Q4_K": Format(256, 144, _q4_k),
    "Q5_K": Format(256, 176, _q5_k),
    "Q6_K": Format(256, 210, _q6_k),
    "IQ4_NL": Format(32, 18, _iq4_nl),
    "IQ4_XS": Format(256, 136, _iq4_xs),
}
