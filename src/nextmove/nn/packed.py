"""Products of few rows with large weights, whose cost is reading the weights.

At batch 1 a CPU spends most of a large network's time waiting for weights. oneDNN reads matrices of several megabytes
up to 1.6 times faster from a copy in its own order, which is made at the first use without gradients and again when the
weights have changed; it takes as much memory again. Letters: N outputs, K inputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from nextmove.contracts import _torch

ROWS, LEAST = 32, 1 << 21
"""Most rows and fewest weights for which the copy is faster."""
LOOKS = 64
"""How many of the weights are compared with those that were copied, at every use."""
_copies: Any = WeakIdKeyDictionary()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of x (..., K) and weight (N, ...) with K values an output, from a packed copy where that is faster."""
    if not _packable(x, weight):
        return F.linear(x, weight.flatten(1), bias)
    # Fused optimisers of others move weights without a new version, hence the look at the values themselves. An odd
    # distance between them: one that divides by the row's length would see one column only, which may stand still.
    state, apart = (weight._version, weight.data_ptr()), weight.numel() // LOOKS | 1
    seen = weight.detach().view(-1)[::apart]
    found = _copies.get(weight)
    if found is None or found[0] != state or not torch.equal(found[1], seen):
        rows = x.numel() // x.shape[-1]
        copy = _torch.packed(weight.detach().flatten(1), rows)
        found = _copies[weight] = (state, seen.clone(), copy)
    return _torch.packed_product(x, found[2], bias)


def _packable(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or not _torch.can_pack() or weight.numel() < LEAST or not weight.is_contiguous():
        return False
    if x.numel() > ROWS * x.shape[-1]:
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu" or weight.is_inference():
        return False
    if torch.is_autocast_enabled("cpu") or (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
        return False
    # Tangents and batches of torch.func do not pass through oneDNN's operator.
    return not _torch.transformed(x)


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters and, up to rounding, numbers."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return linear(input, self.weight, self.bias)
