"""How many bytes of tensors a computation holds as it goes on: outputs that it makes and somebody still has."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import _torch


class Live:
    """Bytes after each operator, `timeline`; tensors that are `known` before count nothing."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        self._held: dict[int, weakref.ref[Any]] = {}
        self._now = 0
        self.timeline: list[int] = []
        for tensor in known:
            self._add(tensor, count=False)

    def see(self, made: Any) -> None:
        """Counts what an operator has returned."""
        for value in made if isinstance(made, list | tuple) else (made,):
            if isinstance(value, Tensor):
                self._add(value, count=True)
        self.timeline.append(self._now)

    def _add(self, tensor: Tensor, *, count: bool) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # of an opaque or sparse tensor
            return
        key = id(storage)
        if key in self._held:
            return
        size = storage.nbytes() if count else 0

        def gone(_: Any) -> None:
            if self._held.pop(key, None) is not None:
                self._now -= size

        self._held[key] = weakref.ref(storage, gone)
        self._now += size


def timeline(compute: Callable[[], object], known: Iterable[Tensor] = ()) -> np.ndarray | None:
    """Bytes after each operator of a computation and its backward pass; None where torch does not tell."""
    live = Live(known)
    watch = _torch.watched(live.see)
    if watch is None:
        return None
    with watch:
        compute()
    return np.array(live.timeline, np.float64)


def most(compute: Callable[[int], object], rows: int, known: Iterable[Tensor], device: torch.device) -> float | None:
    """The most bytes that `compute(rows)` will hold at once, from what it holds with an eighth and a quarter of them.

    Every operator's bytes are carried on along a line, so that a pass in which gradients take most with few rows and
    what is kept for the backward pass with many is foreseen too. None where it cannot be told.
    """
    if device.type == "cuda":
        return _of_gpu(compute, rows, device)
    known = list(known)
    few, more = max(1, rows // 8), min(rows, max(2, rows // 4))
    large = timeline(lambda: compute(more), known)
    if large is None or more == rows:
        return None if large is None else float(large.max(initial=0))
    small = timeline(lambda: compute(few), known)
    assert small is not None
    if len(small) != len(large):  # Few rows take other operators.
        small, large = small.max(initial=0, keepdims=True), large.max(initial=0, keepdims=True)
    return float((large + (large - small) * (rows - more) / (more - few)).max(initial=0))


def _of_gpu(compute: Callable[[int], object], rows: int, device: torch.device) -> float:
    """On a GPU the allocator counts: what all rows take, from an eighth and a quarter of them."""
    found = []
    few, more = max(1, rows // 8), min(rows, max(2, rows // 4))
    for count in (few, more):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        compute(count)
        found.append(torch.cuda.max_memory_allocated(device) - before)
    return found[1] + (found[1] - found[0]) * (rows - more) / max(1, more - few)
