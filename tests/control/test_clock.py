"""Ticks on a grid, in virtual time."""

from __future__ import annotations

import pytest

from nextmove.control import Clock, VirtualTime


def virtual(fps: float = 10.0):
    time = VirtualTime()
    return time, Clock(fps, now=time.now, sleep=time.sleep)


def test_ticks_do_not_drift():
    time, clock = virtual()
    ends = []
    for work in (0.03, 0.09, 0.0, 0.05):
        time.sleep(work)
        assert clock.wait() == 0
        ends.append(time.now())
    assert ends == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert (clock.ticks, clock.missed, clock.worst) == (4, 0, 0)


def test_missed_ticks_are_dropped_and_the_beat_keeps_its_phase():
    time, clock = virtual()
    time.sleep(0.25)
    assert clock.wait() == pytest.approx(0.15)
    assert time.now() == pytest.approx(0.3)
    time.sleep(0.02)
    assert clock.wait() == 0
    assert time.now() == pytest.approx(0.4)
    assert (clock.ticks, clock.missed) == (2, 2)
    assert clock.worst == pytest.approx(0.15)


def test_restart_begins_a_new_grid():
    time, clock = virtual()
    time.sleep(0.33)
    clock.wait()
    clock.restart()
    assert (clock.ticks, clock.missed, clock.worst) == (0, 0, 0)
    began = time.now()
    clock.wait()
    assert time.now() - began == pytest.approx(0.1)


def test_a_rate_has_to_be_positive():
    with pytest.raises(ValueError, match="fps: expected a positive number, found 0"):
        Clock(0)
