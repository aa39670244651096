"""Commands of nextmove in forks of a process that has loaded everything: they start at once, and die like any other."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nextmove.cli.main import main
from nextmove.models.policy.policy import Policy


class Command:
    """A command under way; `pause` seconds are added to every training step, so that its length is known."""

    def __init__(self, args: Sequence[str], log: Path, pause: float = 0.0) -> None:
        self.args, self.log = list(args), log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_live(self.args, log, pause))

    def running(self) -> bool:
        """Whether it has not ended; its `status` is there once it has."""
        if hasattr(self, "status"):
            return False
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return not pid

    def wait(self, until: Callable[[], bool] = lambda: False, most: float = 1800) -> bool:
        """Waits until something holds or the command ends; returns whether the command still runs."""
        stop = time.monotonic() + most
        while self.running():
            if until():
                return True
            if time.monotonic() > stop:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(
                    f"{shlex.join(self.args)}: still running after {most} s, {self.log.read_text()[-500:]}"
                )
            time.sleep(0.01)
        return False

    def send(self, number: int) -> None:
        """A signal; waits for the end."""
        os.kill(self.pid, number)
        self.wait()

    @property
    def lines(self) -> list[str]:
        """What it said on standard error, without the bars that move."""
        text = self.log.read_text(errors="replace").replace("\r", "\n")
        return [line for line in text.splitlines() if line.startswith(("nextmove", "Traceback", "  File"))]

    def onwards(self) -> list[str]:
        """The arguments of the command that its last line names."""
        program, *args = shlex.split(self.lines[-1].partition("to go on: ")[2])
        assert program == "nextmove", self.lines
        return args


def _live(args: list[str], log: Path, pause: float) -> int:
    """The life of the fork."""
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(out, 2)
        torch.set_num_threads(1)
        loss = Policy.loss

        def slow(self: Policy, *given: Any, **named: Any) -> Any:
            time.sleep(pause)
            return loss(self, *given, **named)

        Policy.loss = slow  # type: ignore[method-assign]
        return main(args)
    except BaseException as problem:
        os.write(2, f"Traceback: {problem!r}\n".encode())
        return 99


def run(args: Sequence[str], log: Path, pause: float = 0.0) -> Command:
    """A command that has ended."""
    command = Command(args, log, pause)
    command.wait()
    return command


def done(args: Sequence[str], log: Path, pause: float = 0.0) -> Command:
    """A command that has ended well."""
    command = run(args, log, pause)
    if command.status:
        raise SystemExit(f"nextmove {shlex.join(args)}: status {command.status}\n{log.read_text()[-2000:]}")
    return command


def steps(run: Path) -> list[int]:
    """The steps of the checkpoints in a run's folder, in order."""
    found = (path.name.removeprefix("last-") for path in (run / "checkpoints").glob("last-*"))
    return sorted(int(step) for step in found)


def logged(run: Path) -> int:
    """The last step in a run's log, 0 if it has none."""
    last = 0
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        for line in (run / "train.jsonl").read_text().splitlines():
            last = int(json.loads(line)["step"])
    return last
