"""Keeps a thread's scheduling as it was where a library changes it for good.

SVT-AV1 that root runs makes the thread that opens it, and its own threads, real-time threads of the highest priority:
all that the process does afterwards, and every thread that it starts, goes before everything else on the machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

THREADS = Path("/proc/self/task")


def keeper() -> Callable[[], None]:
    """A function that gives this thread, and those that were started since, the scheduling that this thread has now.

    It does nothing where a system does not tell of threads (all but Linux).
    """
    if not hasattr(os, "sched_setscheduler") or not THREADS.is_dir():
        return lambda: None
    own = threading.get_native_id()
    others = set(_threads()) - {own}
    policy, param = os.sched_getscheduler(own), os.sched_getparam(own)

    def keep() -> None:
        for thread in set(_threads()) - others:
            with suppress(OSError):  # It has ended.
                if os.sched_getscheduler(thread) != policy or os.sched_getparam(thread) != param:
                    os.sched_setscheduler(thread, policy, param)

    return keep


def _threads() -> list[int]:
    return [int(name) for name in os.listdir(THREADS)]
