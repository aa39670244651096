"""How weights start."""

from __future__ import annotations

from torch import nn

from nextmove.nn.attention import Attention


def init_normal(module: nn.Module | None) -> None:
    """GPT-2's start: matrices normal with deviation 0.02, biases 0 (Radford et al. 2019)."""
    for part in [] if module is None else module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, Attention):
            for weight in part.projections():
                nn.init.normal_(weight, std=0.02)
