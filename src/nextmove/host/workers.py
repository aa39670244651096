"""A pool of worker processes: a task that fails, or kills its process, is named and the others go on."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from types import TracebackType
from typing import Any, Generic, TypeVar

from nextmove.host.signals import check, unheard

T = TypeVar("T")
R = TypeVar("R")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class SetupError(RuntimeError):
    """A worker could not be built; the message says why."""


def within() -> bool:
    """Whether this process is a worker of another."""
    return parent_process() is not None


@dataclass(frozen=True)
class Failure:
    """A task that failed and why: what was raised, or the exit code of the process that died on it."""

    reason: str


def why(problem: Exception) -> str:
    """What was raised, with its place unless it is an error meant to be read; all of it with NEXTMOVE_TRACEBACK set."""
    if os.environ.get("NEXTMOVE_TRACEBACK"):
        return "".join(traceback.format_exception(problem))
    if isinstance(problem, ValueError | OSError | ImportError):
        return str(problem)
    last = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {problem} ({last.filename}, line {last.lineno})"


class WorkerPool(Generic[T, R]):
    """Up to `workers` spawned processes; each calls `build` once, then its result with one task after the other.

    Each runs on one thread, never hears Ctrl-C or SIGTERM, and ends with the pool or with this process, whatever ends
    that. workers: 0 does all of it in this process, on as many threads as it has. grace: seconds that workers have to
    finish the tasks under way when the pool ends early.
    """

    def __init__(self, build: Callable[[], Callable[[T], R]], workers: int, *, grace: float = 0.2) -> None:
        self.build, self.count, self.grace = build, workers, grace
        self._workers: list[_Worker[T, R]] = []

    def __enter__(self) -> WorkerPool[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for worker in self._workers:
                worker.pipe.close()  # each ends after the task under way, also where a second signal comes meanwhile
            until = time.monotonic() + self.grace
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()

    def run(self, next_task: Callable[[], T | None]) -> Iterator[tuple[T, R | Failure]]:
        """Every task with its result, as they come.

        `next_task` gives the next one whenever a worker is idle, None where there is none before another result; the
        iterator ends when no worker is busy. Raises SetupError if `build` fails anywhere.
        """
        if self.count == 0:
            work = _built(self.build)
            for task in iter(next_task, None):
                yield task, _result(work, task)
                check()
            return
        while True:
            self._give(next_task)
            busy: dict[object, _Worker[T, R]] = {
                worker.pipe: worker for worker in self._workers if worker.task is not None
            }
            if not busy:
                return
            for pipe in connection.wait([worker.pipe for worker in busy.values()]):
                worker = busy[pipe]
                answer = worker.answer()
                if worker.dead:
                    self._workers.remove(worker)
                if answer is not None:
                    yield answer
            check()

    def _give(self, next_task: Callable[[], T | None]) -> None:
        """A task to every idle worker; new workers start only for tasks that no idle one is there for."""
        idle = [worker for worker in self._workers if worker.task is None]
        while (idle or len(self._workers) < self.count) and (task := next_task()) is not None:
            if not idle:
                idle.append(self._start())
            idle.pop().give(task)

    def _start(self) -> _Worker[T, R]:
        with _one_thread(), unheard():  # a signal meanwhile is heard once the worker is in the list of those to end
            worker = _Worker[T, R](self.build)
            self._workers.append(worker)
        return worker


def run_tasks(
    build: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    *,
    workers: int,
    done: Callable[[R | Failure], None] = lambda _: None,
) -> list[R | Failure]:
    """`build()(task)` for every task, results in the order of the tasks.

    workers: processes of a WorkerPool. `done` hears of every result as it comes. Raises SetupError if `build` fails
    anywhere.
    """
    results: dict[int, R | Failure] = {}
    left = iter(enumerate(tasks))
    with WorkerPool[tuple[int, T], R](partial(_numbered, build), workers) as pool:
        for (number, _), result in pool.run(lambda: next(left, None)):
            results[number] = result
            done(result)
    return [results[number] for number in range(len(tasks))]


def _numbered(build: Callable[[], Callable[[T], R]]) -> Callable[[tuple[int, T]], R]:
    work = build()
    return lambda numbered: work(numbered[1])


def _built(build: Callable[[], Callable[[T], R]]) -> Callable[[T], R]:
    try:
        return build()
    except Exception as problem:
        raise SetupError(f"a worker could not be built: {why(problem)}") from problem


def _result(work: Callable[[T], R], task: T) -> R | Failure:
    try:
        return work(task)
    except Exception as problem:
        return Failure(why(problem))


class _Worker(Generic[T, R]):
    """A process, the pipe to it and the task it has; the task is sent once the process says that it is built."""

    def __init__(self, build: Callable[[], Callable[[T], R]]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build), daemon=True)
        self.process.start()
        theirs.close()
        self.task: T | None = None
        self.built = self.dead = False

    def give(self, task: T) -> None:
        self.task = task
        if self.built:
            self._send()

    def answer(self) -> tuple[T, R | Failure] | None:
        """The task with its result; None where the worker was built only now. Raises SetupError if it was not."""
        assert self.task is not None
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            kind, value = "died", self._bury()
        if kind == "failed":
            raise SetupError(f"a worker could not be built: {value}")
        if kind == "built":
            self.built = True
            self._send()
            return None
        task, self.task = self.task, None
        return task, value

    def _send(self) -> None:
        with suppress(BrokenPipeError):  # a process that died meanwhile is found when its answer is read
            self.pipe.send(self.task)

    def _bury(self) -> Failure:
        self.process.join()
        self.pipe.close()
        self.dead = True
        reason = f"the worker process died with exit code {self.process.exitcode}"
        if not self.built:
            raise SetupError(f"{reason} before its first task{_hint(self.process.exitcode)}")
        return Failure(reason)


def _hint(exitcode: int | None) -> str:
    """What a script may lack whose workers cannot start; nothing where Python was started otherwise."""
    main = sys.modules["__main__"]
    if exitcode != 1 or getattr(main, "__spec__", None) is not None or not hasattr(main, "__file__"):
        return ""
    return (
        '; if it is a script, what it does must stand behind `if __name__ == "__main__":`, since processes that it '
        "starts read it too (or workers=0)"
    )


def _serve(pipe: connection.Connection, build: Callable[[], Callable[[Any], Any]]) -> None:
    """The life of a worker process: it ends when its pipe does, which is also when its parent is killed."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            work = build()
        except Exception as problem:
            pipe.send(("failed", why(problem)))
            return
        pipe.send(("built", None))
        while True:
            pipe.send(("done", _result(work, pipe.recv())))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute on one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
