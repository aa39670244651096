"""Threads that compute one answer together and wait for each other between its parts.

Waiting costs a fraction of a microsecond; a thread that waits long lets others run.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nextmove.host.compiled import compiled

PATIENCE = 4096
"""Looks before a thread lets others run."""
WORD = ir.IntType(64)
_PAUSE = "llvm.x86.sse2.pause"
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


def _outside(builder: Any, answer: Any, name: str) -> Any:
    """A function without arguments that the processor or the system has."""
    find: Any = cgutils.get_or_insert_function
    return find(builder.module, ir.FunctionType(answer, []), name)


@intrinsic
def _arrive(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        pointer = builder.inttoptr(given[0], WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, WORD(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def _arrived(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            builder.call(_outside(builder, ir.VoidType(), _PAUSE), [])
        return builder.load_atomic(builder.inttoptr(given[0], WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _rest(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.call(_outside(builder, ir.IntType(32), _YIELD), [])

    return types.int32(), generate


_come: Any = _arrive
_here: Any = _arrived
_let: Any = _rest


@compiled()
def meet(address: int, goal: int) -> None:
    """Returns when so many have come, over all meetings of an answer."""
    _come(address)
    looks = 0
    while _here(address) < goal:
        looks += 1
        if looks > PATIENCE:
            _let()


@lru_cache(maxsize=4)
def _others(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "nextmove-packed")


if hasattr(os, "register_at_fork"):
    # A process that was forked has none of the threads.
    os.register_at_fork(after_in_child=_others.cache_clear)


def together(count: int, work: Callable[..., None], *given: Any) -> None:
    """Calls `work(me, count, address, *given)` on so many threads; the address is for `meet`."""
    come = np.zeros(16, np.int64)
    address = come.ctypes.data
    others = [_others(count - 1).submit(work, i, count, address, *given) for i in range(1, count)] if count > 1 else []
    work(0, count, address, *given)
    for other in others:
        other.result()
