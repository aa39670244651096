"""Progress of a run, and its learning rate."""

from __future__ import annotations

import math
import time

from nextmove.training.config import TrainConfig

RAMP = 0.1
"""Largest share of a run spent on warm-up."""
VALIDATIONS = 10
"""Validations in a run that names no interval."""
VALIDATING = 0.1
"""Largest share of the time so far that such a run of minutes has spent on them when it begins another."""
SAVE_SECONDS, SAVING = 20.0, 0.05
"""Seconds on the wall between checkpoints of a run that names no interval; more where writing one would take more than
this share of the time, but no more than a kill may cost:"""
LOST, LOST_SHARE, LOST_MOST = 30.0, 0.1, 300.0
"""seconds, or this share of the run so far, or these seconds."""


def rate(step: int, progress: float, warmup: int) -> float:
    """Share of the peak learning rate for step number `step` (from 0), begun at `progress` in [0, 1] of the run.

    min(1, max((step + 1) / warmup, progress / 0.1)) (1 + cos(pi progress)) / 2: a linear ramp of `warmup` steps, or of
    a tenth of the run if that is shorter, times a half cosine to 0 over the whole run.
    """
    progress = min(1.0, max(0.0, progress))
    ramp = 1.0 if warmup <= 0 else min(1.0, max((step + 1) / warmup, progress / RAMP))
    return ramp * (1 + math.cos(math.pi * progress)) / 2


class BudgetClock:
    """Progress through a budget of steps or of minutes.

    Steps: progress is step / steps, a pure function of the step, so resuming changes nothing. Minutes: progress is
    elapsed / (budget - what one more step, one validation and one save were measured to take), so the run
    ends in time and its last step has a rate near 0. `elapsed` is stored with each checkpoint and goes on from there.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._began = self._now()
        self._pace = 0.0
        self._reserve: dict[str, float] = {}
        self._validating = 0.0
        self._saved, self._saving = time.monotonic(), 0.0
        self._validated = 0

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier sittings included."""
        return self._now() - self._began

    def _now(self) -> float:
        return time.monotonic() if self.config.clock == "wall" else time.thread_time()

    def restore(self, step: int, elapsed: float) -> None:
        """Goes on at `step` after `elapsed` seconds."""
        self._began = self._now() - elapsed
        self._validated = self._passed(step, self.progress(step))

    def progress(self, step: int) -> float:
        """Share of the budget used before step number `step`; at least 1 when the run is over."""
        if self.config.steps:
            return step / self.config.steps
        room = self.config.minutes * 60 - self._pace - sum(self._reserve.values())
        used = self.elapsed / room if room > 0 else 1.0
        return used if step else 0.0

    def left(self, step: int) -> float:
        """Seconds to the end, estimated from the steps so far."""
        if self.config.steps:
            return (self.config.steps - step) * self._pace
        return max(0.0, self.config.minutes * 60 - self.elapsed)

    def stepped(self, seconds: float) -> None:
        """Notes what a step took."""
        self._pace = 0.8 * self._pace + 0.2 * seconds if self._pace else seconds

    def spent(self, what: str, seconds: float) -> None:
        """Notes what a validation or a save took, to keep as much time for the last one."""
        self._reserve[what] = max(seconds, self._reserve.get(what, 0.0))
        if what == "validation":
            self._validating += seconds

    def validation_due(self, step: int, progress: float) -> bool:
        """Whether to validate before step number `step`; with a budget of steps a pure function of the step."""
        if self.config.validate_every:
            return step % self.config.validate_every == 0
        passed = self._passed(step, progress)
        dear = not self.config.steps and self._validating > VALIDATING * self.elapsed
        if passed <= self._validated or dear:
            return False
        self._validated = passed
        return True

    def _passed(self, step: int, progress: float) -> int:
        return VALIDATIONS * step // self.config.steps if self.config.steps else int(VALIDATIONS * progress)

    def save_due(self, step: int) -> bool:
        """Whether to write a checkpoint before step number `step`."""
        if self.config.save_every:
            return step % self.config.save_every == 0
        may_be_lost = min(max(LOST, LOST_SHARE * self.elapsed), LOST_MOST)
        interval = min(max(SAVE_SECONDS, self._saving / SAVING), may_be_lost)
        # Half of a short budget: one save must be measured before the last one.
        interval = min(interval, self.config.minutes * 30 or interval)
        return time.monotonic() - self._saved >= interval

    def saved(self, began: float) -> None:
        """Starts the next interval between checkpoints; the last was written from `began` (monotonic clock) to now."""
        self._saved = time.monotonic()
        self._saving = self._saved - began
