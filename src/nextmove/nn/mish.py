"""Mish (Misra 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mish(nn.Module):
    """x tanh(softplus(x)), written out for training: on CPUs the gradient of `F.mish` takes at least twice as long."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * F.softplus(x).tanh() if torch.is_grad_enabled() else F.mish(x)
