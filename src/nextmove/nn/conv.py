"""One-dimensional convolution that becomes a matrix product where that is faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` with the same parameters and numbers, computed as unfold and linear on CPUs under bf16 autocast.

    Matrix tiles (AMX) reach linear layers but not `conv1d`, which then trains at a third of their rate.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, L) -> (B, C', L')."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or self.groups != 1:
            return super().forward(input)
        return unfolded(input, self.weight, self.bias, self.stride[0], int(self.padding[0]))


def unfolded(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """The convolution of x (B, C, L) with weight (C', C, K) as one product over gathered windows."""
    patches = F.pad(x, (padding, padding)).unfold(2, weight.shape[2], stride)
    y = F.linear(patches.transpose(1, 2).flatten(2), weight.flatten(1), bias)
    return y.transpose(1, 2)
