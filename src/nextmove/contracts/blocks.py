"""Networks of blocks in a row, whose memory in training can be traded for time or spread over processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Blocks(Protocol):
    """A network of blocks in a row."""

    blocks: nn.ModuleList
    recompute: bool
    """Whether the backward pass computes each block again in place of reading what it would have kept (gradient
    checkpointing; Chen et al. 2016)."""


@contextmanager
def recomputed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, every network of blocks of a model is recomputed, if it is `wanted`.

    Raises ValueError for a model without such a network.
    """
    found = [module for module in model.modules() if isinstance(module, Blocks)] if wanted else []
    if wanted and not found:
        raise ValueError("gradient_checkpointing: expected a network of transformer blocks, found none; leave it out")
    before = [network.recompute for network in found]
    try:
        for network in found:
            network.recompute = True
        yield
    finally:
        for network, value in zip(found, before, strict=True):
            network.recompute = value
