"""Packed weights in the order that kernels read them: blocks of 16 rows and 32 columns, one behind another.

A block: 16 float16 scales, with 4 bits a weight as many least values, then column by column the 16 rows' numbers; of 4
bits a byte holds columns j and j + 16. Shapes: N rows, K columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.contracts.layers import PackedRows, Product
from nextmove.runtime.packed.tile import BYTES, COLUMNS, ROWS

FOUR, EIGHT = ("Q4_0", "Q4_1"), "Q8_0"


@dataclass(frozen=True, eq=False)
class Laid:
    """Weights (N, K) of one product."""

    bits: int
    rows: int
    columns: int
    data: np.ndarray
    """(N / 16 rounded up, K / 32, bytes of a block) uint8."""
    bias: np.ndarray | None

    @property
    def address(self) -> int:
        """Where the weights are."""
        return int(self.data.ctypes.data)


def laid(product: Product) -> Laid:
    """The weights of a product: as a file packs them where it packs all in 4 or all in 8 bits, else rounded to 8.

    Rounded are 32 numbers of a row to one scale, as Q8_0 does. Raises ConfigError for K that 32 does not divide.
    """
    kinds = {part.kind for part in product.packed}
    bits = 4 if kinds and kinds <= set(FOUR) else 8
    if bits == 4 or kinds == {EIGHT}:
        blocks = torch.cat([_numbers(part) for part in product.packed])
    else:
        blocks = _rounded(product.weight.detach().float())
    rows, columns = len(blocks), blocks.shape[1] * COLUMNS
    groups = -(-rows // ROWS)
    padded = torch.zeros(groups * ROWS, *blocks.shape[1:], dtype=torch.uint8)
    padded[:rows] = blocks
    head = 4 if bits == 4 else 2
    scales, numbers = padded[..., :head], padded[..., head:]
    by_row = scales.reshape(groups, ROWS, -1, head // 2, 2).permute(0, 2, 3, 1, 4).flatten(2)
    by_column = numbers.reshape(groups, ROWS, columns // COLUMNS, -1).permute(0, 2, 3, 1).flatten(2)
    data = _aligned(torch.cat([by_row, by_column], 2).numpy())
    assert data.shape[2] == BYTES[bits]
    return Laid(bits, rows, columns, data, None if product.bias is None else product.bias.detach().float().numpy())


def _numbers(part: PackedRows) -> Tensor:
    """The blocks (N, K / 32, bytes) of a tensor, those of Q4_0 as Q4_1's."""
    if part.kind != "Q4_0":
        return part.blocks
    least = (part.blocks[..., :2].contiguous().view(torch.float16).float() * -8).half()
    return torch.cat([part.blocks[..., :2], least.view(torch.uint8), part.blocks[..., 2:]], -1)


def _rounded(weight: Tensor) -> Tensor:
    """Numbers (N, K) as blocks (N, K / 32, bytes) of Q8_0."""
    if weight.shape[1] % COLUMNS:
        wants = f"runtime: packed wants widths that {COLUMNS} divides"
        raise ConfigError(f"{wants}, found {weight.shape[1]}; take runtime openvino")
    parts = weight.view(len(weight), -1, COLUMNS)
    scale = (parts.abs().amax(-1, keepdim=True) / 127).half()
    safe = torch.where(scale == 0, 1, scale.float())
    whole = (parts / safe).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([scale.view(torch.uint8), whole.view(torch.uint8)], -1)


def _aligned(data: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    room = np.empty(data.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    found = room[start : start + data.nbytes].reshape(data.shape)
    found[...] = data
    return found
