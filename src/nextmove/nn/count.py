"""How large a network is."""

from __future__ import annotations

from torch import nn


def count(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
