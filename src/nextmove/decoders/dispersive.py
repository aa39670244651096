"""The dispersive loss: rows of a batch are driven apart inside a network, without pairs that belong together.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dispersive(levels: Sequence[Tensor]) -> Tensor:
    """Sum over levels of log mean exp(-D), D = |z_i - z_j|^2 / max |z_i - z_j|^2 of their rows (B, ...).

    InfoNCE without positive pairs (Wang & He 2025, eq. 6), distances over the batch's largest as in MP1's code (Sheng
    et al. 2026); 0 where there are fewer than two rows.
    """
    found = []
    for level in levels:
        z = level.float().flatten(1)
        if len(z) < 2:
            return z.sum() * 0.0
        apart = _distances(z)
        found.append(torch.log(torch.exp(-apart / apart.max().clamp_min(torch.finfo(z.dtype).tiny)).mean()))
    return torch.stack(found).sum()


def _distances(z: Tensor) -> Tensor:
    """(B, B) squared distances of rows (B, D), by products, of a row to itself exactly 0."""
    z = z - z.mean(0).detach()
    square = z.square().sum(1)
    apart = (square[:, None] + square[None] - 2 * (z @ z.T)).clamp_min(0)
    return apart - torch.diag_embed(apart.diagonal())
