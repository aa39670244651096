"""Ticks of a control loop on a fixed grid; late ticks are reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class VirtualTime:
    """Simulated time for tests and simulators: it passes only when it is set."""

    seconds: float = 0.0

    def now(self) -> float:
        """The present, in seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Lets `seconds` pass."""
        self.seconds += max(0.0, seconds)


class Clock:
    """Ticks `fps` times a second.

    A tick that comes late is not made up for by a burst of quick ones, which would make the robot lurch: the missed
    grid points are dropped and counted, and the beat keeps its phase.
    """

    def __init__(
        self, fps: float, *, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if not fps > 0:
            raise ValueError(f"fps: expected a positive number, found {fps}")
        self.dt = 1.0 / fps
        self._now, self._sleep = now, sleep
        self.restart()

    def restart(self) -> None:
        """The grid begins now and the counts at zero."""
        self._origin = self._now()
        self._point = 0
        self.ticks = 0
        self.missed = 0
        """Grid points that passed while the loop was busy."""
        self.worst = 0.0
        """The longest time, in seconds, that the loop came back after the tick it should have made."""

    def wait(self) -> float:
        """Sleeps until the next grid point; returns how late the loop was, in seconds (0 if it was in time)."""
        self._point += 1
        late = self._now() - (self._origin + self._point * self.dt)
        # A hair of tolerance, so that rounding on an exactly met deadline does not count as a miss.
        if late > 1e-9:
            skipped = math.ceil(late / self.dt - 1e-9)
            self.missed += skipped
            self._point += skipped
            self.worst = max(self.worst, late)
        self._sleep(max(0.0, self._origin + self._point * self.dt - self._now()))
        self.ticks += 1
        return max(0.0, late)
