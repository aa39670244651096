"""Processes that play numbered episodes and survive each other: who dies or fails is named, the rest finishes."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection, get_context

from nextmove.host.signals import unheard

GRACE = 5.0
"""Seconds that processes have to finish the episodes under way."""
_SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class RecordingError(RuntimeError):
    """Recording stopped; what was finished is kept and the same call goes on from there."""

    def __init__(self, message: str, *, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


Job = Callable[[int], bool]
Take = Callable[[], int | None]


@contextmanager
def crew(job: Job, workers: int) -> Iterator[Callable[[Take], Iterator[tuple[int, bool]]]]:
    """What plays the numbers it is given until there are none, and yields each with its success."""
    if workers == 0:
        yield lambda take: ((number, _here(job, number)) for number in iter(take, None))
        return
    members: list[_Member] = []
    try:
        with _one_thread(), unheard():
            members += [_Member(job) for _ in range(workers)]
        yield partial(_share, members)
    finally:
        _end(members)


def _end(members: list[_Member]) -> None:
    """Lets every member finish its episode, for a while."""
    try:
        for member in members:
            member.pipe.close()
        until = time.monotonic() + GRACE
        for member in members:
            member.process.join(max(0.0, until - time.monotonic()))
    finally:
        for member in members:
            member.process.kill()
            member.process.join()


def _here(job: Job, number: int) -> bool:
    try:
        return job(number)
    except Exception as problem:
        raise RecordingError(_told(number, _reason(problem))) from problem


def _share(members: list[_Member], take: Take) -> Iterator[tuple[int, bool]]:
    """Hands out numbers, one at a time to each member."""
    idle = list(members)
    while True:
        while idle and (number := take()) is not None:
            idle.pop().give(number)
        busy: dict[object, _Member] = {member.pipe: member for member in members if member.number is not None}
        if not busy:
            return
        for pipe in connection.wait([member.pipe for member in busy.values()]):
            member = busy[pipe]
            yield member.answer()
            idle.append(member)


class _Member:
    """A process that plays episodes until its pipe closes, which also happens when this process is killed."""

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.number: int | None = None
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, number: int) -> None:
        self.number = number
        with suppress(BrokenPipeError):  # a process that died meanwhile is found when it is listened to
            self.pipe.send(number)

    def answer(self) -> tuple[int, bool]:
        number, self.number = self.number, None
        assert number is not None
        try:
            success, problem = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            success, problem = False, f"its process died with exit code {self.process.exitcode}"
        if problem:
            raise RecordingError(_told(number, problem))
        return number, success


def _reason(problem: Exception) -> str:
    # A full disk is no bug of anyone's: where it struck says nothing.
    return str(problem) if isinstance(problem, OSError) else traceback.format_exc()


def _told(number: int, problem: str) -> str:
    return f"episode {number}: {problem.strip()}; what was finished is kept, the same call goes on from there"


def _serve(pipe: connection.Connection, job: Job) -> None:
    """The life of a recording process; signals are for the parent, the episode under way is finished."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            number = pipe.recv()
            try:
                answer = (job(number), "")
            except Exception as problem:
                answer = (False, _reason(problem))
            pipe.send(answer)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute on one thread each."""
    before = {name: os.environ.get(name) for name in _SINGLE}
    os.environ.update(dict.fromkeys(_SINGLE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
