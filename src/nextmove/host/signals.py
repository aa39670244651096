"""Ctrl-C and SIGTERM: what is finished is kept, and the exit status tells the signal."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(KeyboardInterrupt):
    """A job that was asked to stop and did; the message says what is kept, `number` which signal asked."""

    def __init__(self, kept: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(kept)
        self.number = number

    @property
    def status(self) -> int:
        """What a process that was stopped so ends with, as shells count: 130 or 143."""
        return 128 + self.number

    @classmethod
    def of(cls, stop: KeyboardInterrupt, kept: str) -> StoppedError:
        """The same signal with what is kept, unless that was said already."""
        return cls(str(stop) or kept, getattr(stop, "number", signal.SIGINT))


_swallowed: list[KeyboardInterrupt] = []
"""Wishes to stop that came while a finaliser ran: no exception can leave one."""


def check() -> None:
    """Raises the wish to stop that a finaliser swallowed, if one did; long work calls it now and then."""
    if _swallowed:
        raise StoppedError.of(_swallowed.pop(), "")


@contextmanager
def heard() -> Iterator[None]:
    """SIGTERM raises StoppedError inside, as SIGINT raises KeyboardInterrupt; in the main thread.

    What comes while a finaliser runs is raised by the next `check`.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(number=number)

    def keep(problem: sys.UnraisableHookArgs) -> None:
        if isinstance(problem.exc_value, KeyboardInterrupt):
            _swallowed.append(problem.exc_value)
        else:
            hook(problem)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = keep
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        sys.unraisablehook = hook
        _swallowed.clear()


@contextmanager
def unheard() -> Iterator[None]:
    """Processes started inside never hear the two signals, which are for their parent; it ends or kills them."""
    from multiprocessing import resource_tracker

    # Started at need, it would let the signals in again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Interrupt:
    """While entered, the first SIGINT or SIGTERM sets `asked`, a second one raises StoppedError at once."""

    def __init__(self) -> None:
        self.asked: int = 0
        """The signal, 0 before there was one."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOPS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise StoppedError(number=number)
        self.asked = number
