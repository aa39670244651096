"""Threads, one for each core, for work that leaves Python's lock: reading, hashing, numbers of large arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threaded(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work(item)` of every item, results in their order; the first item in order that fails raises."""
    count = min(cores(), len(items))
    if count < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))
