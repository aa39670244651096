"""Tensors of a file in a policy, by a table of `layout`, in the dtype that openpi computes each of them in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nextmove import weights
from nextmove.interop.pi import layout
from nextmove.models.policy import Policy


def fill(
    policy: Policy,
    table: Mapping[str, tuple[layout.Piece, ...]],
    tensors: dict[str, Tensor],
    *,
    where: str,
    dtype: torch.dtype | None = None,
) -> None:
    """Gives a policy the tensors of a file, all of which must be used.

    dtype: of the weights (`precise`); None: as the file has most of them. Raises ConfigError naming the tensor.
    """
    dtype = most(tensors) if dtype is None else dtype
    made = layout.gathered(table, policy.state_dict(), tensors, where=where)
    weights.assign(policy, made, where=where, foreign=lambda name: name if name in made else None)
    precise(policy, dtype)
    weights.check_filled(policy, where)


def precise(policy: Policy, dtype: torch.dtype) -> None:
    """Gives the weights a dtype, but for gains and the small maps around the expert, which stay float32 or wider."""
    for name, part in policy.named_parameters():
        gain = name.endswith("norm.weight") and not name.startswith("encoder.towers.")
        small = name.startswith("decoder.net.") and not name.startswith("decoder.net.stream.")
        part.data = part.data.to(torch.promote_types(dtype, torch.float32) if gain or small else dtype)


def most(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of most values."""
    sizes: dict[torch.dtype, int] = {}
    for value in tensors.values():
        sizes[value.dtype] = sizes.get(value.dtype, 0) + value.numel()
    return max(sizes, key=lambda kind: sizes[kind])
