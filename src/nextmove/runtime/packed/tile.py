"""Products with packed weights as machine code: 16 rows of weights times one token or several, in float32.

Written in LLVM's terms, since a compiler of loops keeps neither the unpacked weights nor the sums in registers. A
weight is unpacked where it is multiplied, to the number that unpacking the file gives.

numba keeps what it has compiled by the time of `step.py`, which calls this: touch that file after a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

ROWS, COLUMNS = 16, 32
"""Of a block of the layout (`layout.py`)."""
BYTES = {4: 2 * ROWS * 2 + ROWS * COLUMNS // 2, 8: ROWS * 2 + ROWS * COLUMNS}
"""Bytes of a block, by the bits of a weight."""
SUMS = 4
"""Sums that a single token's products go to in turns, so that none waits for the one before."""

BYTE, WORD, FLOAT = ir.IntType(8), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, ROWS)


class _Code:
    """Instructions on vectors of `ROWS` numbers at addresses in bytes."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{ROWS}f32")  # type: ignore[no-untyped-call]

    def at(self, address: Any, offset: int, kind: Any) -> Any:
        """A pointer so many bytes behind an address."""
        return self.builder.inttoptr(self.builder.add(address, WORD(offset)), kind.as_pointer())

    def load(self, address: Any, offset: int, kind: Any) -> Any:
        """`ROWS` numbers of a kind."""
        return self.builder.load(self.at(address, offset, ir.VectorType(kind, ROWS)), align=1)

    def halves(self, address: Any, offset: int) -> Any:
        """`ROWS` float16."""
        return self.builder.fpext(self.load(address, offset, ir.HalfType()), VECTOR)

    def everywhere(self, address: Any, offset: int) -> Any:
        """One float32, `ROWS` times."""
        number = self.builder.load(self.at(address, offset, FLOAT), align=4)
        first = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), ROWS), [0] * ROWS)
        return self.builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), places)

    def unpacked(self, bits: int, numbers: Any, scale: Any, least: Any) -> list[tuple[int, Any]]:
        """Of `ROWS` bytes, how many columns on the weights in them are, and the weights."""
        builder, read = self.builder, self.load(numbers, 0, BYTE)
        if bits == 8:
            return [(0, builder.fmul(builder.sitofp(read, VECTOR), scale))]
        mask, shift = (ir.Constant(ir.VectorType(BYTE, ROWS), [n] * ROWS) for n in (15, 4))
        halves = builder.and_(read, mask), builder.lshr(read, shift)
        return [
            (i * COLUMNS // 2, builder.call(self.fma, [builder.uitofp(half, VECTOR), scale, least]))
            for i, half in enumerate(halves)
        ]


def tile(bits: int, tokens: int) -> Callable[..., None]:
    """What multiplies `ROWS` rows of weights of so many bits with so many tokens.

    It takes the addresses of the weights, of the inputs (columns, tokens) and of the outputs, the bytes from one
    token's outputs to the next's, the number of blocks in a row, and whether to add to the outputs.
    """

    @intrinsic
    def call(typing: Any, weights: Any, inputs: Any, outputs: Any, stride: Any, blocks: Any, adds: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            _multiply(builder, bits, tokens, given)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return call


def _multiply(builder: Any, bits: int, tokens: int, given: Any) -> None:
    weights, inputs, outputs, stride, blocks, adds = given
    code, several = _Code(builder), SUMS if tokens == 1 else 1
    zero, steps = ir.Constant(VECTOR, [0.0] * ROWS), COLUMNS * bits // 8
    room = partial(cgutils.alloca_once, builder, VECTOR)
    sums: list[list[Any]] = [[room() for _ in range(several)] for _ in range(tokens)]
    for place in (one for part in sums for one in part):
        builder.store(zero, place)
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(weights, builder.mul(loop.index, WORD(BYTES[bits])))
        read = builder.add(inputs, builder.mul(loop.index, WORD(COLUMNS * tokens * 4)))
        scale = code.halves(block, 0)
        least = code.halves(block, ROWS * 2) if bits == 4 else None
        first = builder.add(block, WORD(BYTES[bits] - ROWS * steps))

        def step(numbers: Any, read: Any, i: int) -> None:
            for column, weight in code.unpacked(bits, numbers, scale, least):
                for token in range(tokens):
                    place = sums[token][(2 * i + bool(column)) % several]
                    number = code.everywhere(read, (column * tokens + token) * 4)
                    builder.store(builder.call(code.fma, [weight, number, builder.load(place)]), place)

        if tokens == 1:
            for i in range(steps):
                step(builder.add(first, WORD(ROWS * i)), builder.add(read, WORD(4 * i)), i)
        else:
            # Written out it takes a minute to compile, and is no faster.
            with cgutils.for_range(builder, WORD(steps)) as inner:
                numbers = builder.add(first, builder.mul(inner.index, WORD(ROWS)))
                step(numbers, builder.add(read, builder.mul(inner.index, WORD(4 * tokens))), 0)
    for token, part in enumerate(sums):
        total = builder.load(part[0])
        for place in part[1:]:
            total = builder.fadd(total, builder.load(place))
        to = builder.add(outputs, builder.mul(stride, WORD(token)))
        before = code.load(to, 0, FLOAT)
        total = builder.fadd(total, builder.select(builder.trunc(adds, ir.IntType(1)), before, zero))
        builder.store(total, code.at(to, 0, VECTOR), align=4)
