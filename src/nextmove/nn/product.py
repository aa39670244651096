"""Products of rows with weights by the fastest way of a CPU, with the numbers of `F.linear` up to rounding.

torch multiplies float32 matrices with MKL, which uses half of what AMD's processors with AVX-512 can do: there oneDNN
is about twice as fast, forwards and backwards. And few rows spend their time waiting for weights: without gradients,
oneDNN reads them 1.2 to 3 times faster from a copy in its own order, which is made at the first use and again when the
weights have changed; it takes as much memory again.

Shapes: N outputs, K inputs.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextmove.contracts import _torch
from nextmove.nn.kept import Kept, lasting

ROWS, LEAST = 64, 1 << 20
"""Most rows and fewest weights for which a copy is faster; of four rows and more a quarter of the weights do."""
WORK = 1 << 21
"""Fewest rows x weights for which oneDNN is faster than a slow MKL: it takes microseconds to set out."""
_copies, _narrow = Kept(), Kept()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of x (..., K) and weight (N, ...) with K values an output."""
    work = x.numel() * weight.shape[0]
    matrix = weight if weight.dim() == 2 else weight.flatten(1)
    # Looking any closer costs a small product a tenth of its time.
    if work < LEAST or not _plain(x, weight):
        return F.linear(x, _narrowed(x, matrix, weight), bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        large = work >= WORK and slow_mkl()
        y: Tensor = _Product.apply(x, matrix, bias) if large else F.linear(x, matrix, bias)  # type: ignore[no-untyped-call]
        return y
    rows = x.numel() // x.shape[-1]
    if rows <= ROWS and weight.numel() >= (LEAST if rows < 4 else LEAST // 4) and lasting(weight):
        return _torch.product(x, packed(weight), bias)
    return _torch.product(x, matrix, bias) if work >= WORK and slow_mkl() else F.linear(x, matrix, bias)


def packed(weight: Tensor) -> Tensor:
    """The copy of a weight (N, ...) in oneDNN's order, made anew where the weights have changed."""
    copy: Tensor = _copies.of(lambda: _torch.packed(weight.detach().flatten(1), ROWS), weight)
    return copy


def _narrowed(x: Tensor, matrix: Tensor, weight: Tensor) -> Tensor:
    """The matrix in the dtype of a CPU's autocast, which keeps no copy of frozen weights from one step to the next."""
    if weight.requires_grad or not x.requires_grad or not torch.is_autocast_enabled("cpu"):
        return matrix
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < LEAST // 4:
        return matrix
    if torch.compiler.is_compiling() or not lasting(weight):
        return matrix
    copy: Tensor = _narrow.of(lambda: matrix.detach().to(torch.get_autocast_dtype("cpu")), weight)
    return copy


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's operator may stand in: float32 on a CPU, without autocast, compilers and torch.func."""
    if torch.compiler.is_compiling() or not _torch.can_pack() or torch.is_autocast_enabled("cpu"):
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
        return False
    return not _torch.transformed(x) and not _torch.transformed(weight)


@functools.cache
def slow_mkl() -> bool:
    """Whether torch multiplies by an MKL that leaves AVX-512 unused."""
    built: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    if not built or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    known = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (known.read_text() if known.is_file() else platform.processor())


class _Product(torch.autograd.Function):
    """`F.linear` with both of its gradients through oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _torch.product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows, inputs = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        # Torch's own where the gradients are themselves differentiated, or many of them are asked for at once.
        product = F.linear if torch.is_grad_enabled() or _torch.transformed(grad) else _torch.product
        return (
            product(rows, weight.t(), None).view(x.shape) if of_x else None,
            product(rows.t(), inputs.t(), None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters and, up to rounding, numbers; `adapter` (`nn.lora`) adds to its outputs."""

    adapter: nn.Module | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, **options: Any) -> None:
        super().__init__(in_features, out_features, bias, **options)
        self.adapter = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        if input.numel() * self.out_features < LEAST:
            y = F.linear(input, self.weight, self.bias)
        else:
            y = linear(input, self.weight, self.bias)
        return y if self.adapter is None else y + self.adapter(input)
