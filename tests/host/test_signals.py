"""A wish to stop is heard whatever runs when it comes."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import pytest

from nextmove.host.signals import StoppedError, check, heard
from nextmove.host.workers import WorkerPool


class Finalised:
    """Gets a signal while it is collected, where Python ignores exceptions."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(100):
            pass


def task(number: int) -> int:
    Finalised(number)
    return number


def same(work: Any) -> Any:
    return work


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_finaliser_swallowed_stops_the_pool_after_its_task(number: int, status: int) -> None:
    results: list[Any] = []
    tasks = iter([number, number])

    def play() -> None:
        with WorkerPool[int, int](partial(same, task), 0) as pool:
            results.extend(pool.run(lambda: next(tasks, None)))

    with heard():
        with pytest.raises(StoppedError) as stop:
            play()
        assert stop.value.status == status
        check()
    assert next(tasks) == number, "the second task is not begun"
