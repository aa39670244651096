"""Two sides of a speed comparison take turns, and their ratio is the median of paired ratios; standard library only.

A machine's speed drifts within minutes: a side that runs whole before the other is measured on another machine. A peer
that lives in an environment of its own is a process that does one repetition for each line it is sent.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Times = dict[str, list[float]]


def seconds(act: Callable[[], object]) -> Callable[[], float]:
    """What `act` takes, as a repetition of `turns`."""

    def once() -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    return once


def turns(sides: Mapping[str, Callable[[], float]], rounds: int, warm: int = 1) -> Times:
    """What every side measures in each round, A B A B; the first `warm` rounds are left out."""
    found: Times = {name: [] for name in sides}
    for turn in range(warm + rounds):
        for name, repetition in sides.items():
            value = repetition()
            if turn >= warm:
                found[name].append(value)
    return found


def resident() -> dict[str, float]:
    """MiB of memory that this process has: now, at most so far, and now apart from the pages of files (Linux)."""
    with open("/proc/self/status") as file:
        known = dict(line.split(":", 1) for line in file)
    names = {"now": "VmRSS", "most": "VmHWM", "own": "RssAnon"}
    return {name: int(known[key].split()[0]) / 1024 for name, key in names.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the paired ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


class Others:
    """How many cores everything else takes while something runs (Linux); an idle machine's answer is about 0."""

    def __init__(self, own: Sequence[int]) -> None:
        """own: the processes that are not told of."""
        self.own, self.unit = tuple(own), os.sysconf("SC_CLK_TCK")

    def during(self, act: Callable[[], Any]) -> tuple[Any, float]:
        """What `act` gives, and the cores that others took."""
        before, began = self._taken(), time.perf_counter()
        found = act()
        return found, max(0.0, (self._taken() - before) / (time.perf_counter() - began))

    def _taken(self) -> float:
        """Seconds of all cores so far, those without work and the own processes' left out; steal is another's."""
        with open("/proc/stat") as file:
            user, nice, system, _, _, *rest = map(int, file.readline().split()[1:9])
        ticks = user + nice + system + sum(rest)
        for process in self.own:
            with open(f"/proc/{process}/stat") as file:
                ticks -= sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        return ticks / self.unit


class Peer:
    """A process that answers: `peer(NAME, **options)` is one repetition there; leave the `with` to end it.

    It runs `answer` below, under the same settings of threads as this process. Raises RuntimeError where it ends.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = self._process.pid
        self.ready = self._read()
        """What it says once, when it has built what it measures."""

    def __call__(self, name: str, **options: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, options]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line[len(MARK) :])
        raise RuntimeError(f"{' '.join(self.command)}: ended with {self._process.wait()} before it answered")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


MARK = "turns: "
"""Begins an answer; whatever else a peer prints is passed over."""


def answer(actions: Mapping[str, Callable[..., Any]], ready: Any = None) -> None:
    """The peer's side: says it is ready, then does the action that each line names and says what it gives."""
    print(MARK + json.dumps(ready), flush=True)
    for line in sys.stdin:
        name, options = json.loads(line)
        print(MARK + json.dumps(actions[name](**options)), flush=True)
