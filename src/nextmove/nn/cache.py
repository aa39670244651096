"""Keys and values that grow step by step without being copied each time.

Letters: B batch, S positions, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


class _Room:
    """A buffer (B, heads, more than S, D) and how many of its positions its newest view shows."""

    def __init__(self, buffer: Tensor, taken: int) -> None:
        self.buffer, self.taken = buffer, taken


def grow(past: Tensor, new: Tensor) -> Tensor:
    """[past, new] (B, heads, S, D) joined along S; nothing the caller holds changes, however often it is grown.

    Where no gradient is wanted the result is a view of a longer buffer. Growing the newest view writes behind it, so
    that a step costs its new positions only; growing an older one, whose place behind is taken, copies.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.cat([past, new], 2)
    start, end = past.shape[2], past.shape[2] + new.shape[2]
    room = getattr(past, "_room", None)
    if room is None or not _fits(room, past, end):
        buffer = past.new_empty(*past.shape[:2], end + max(64, end // 2), past.shape[3])
        buffer.narrow(2, 0, start).copy_(past)
        room = _Room(buffer, start)
    room.buffer.narrow(2, start, end - start).copy_(new)
    room.taken = end
    joined: Tensor = room.buffer.narrow(2, 0, end)
    joined._room = room  # type: ignore[attr-defined]
    return joined


def _fits(room: _Room, past: Tensor, end: int) -> bool:
    """Whether `past` is the newest view and may be written behind."""
    frozen = room.buffer.is_inference() and not torch.is_inference_mode_enabled()
    return room.taken == past.shape[2] and end <= room.buffer.shape[2] and not frozen
