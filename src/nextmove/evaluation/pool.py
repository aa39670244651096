"""Many tasks on a few processes that survive each other: a task that fails, or kills its process, is named."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any, Generic, TypeVar

import torch

from nextmove.evaluation.latency import torch_threads
from nextmove.host.signals import unheard

T = TypeVar("T")
R = TypeVar("R")


class SetupError(RuntimeError):
    """A worker could not be built; the message says why."""


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


def _serve(pipe: connection.Connection, build: Callable[[], Callable[[Any], Any]]) -> None:
    """A worker process: builds once, then answers one task after the other on one thread; signals are the parent's."""
    torch.set_num_threads(1)
    try:
        work = build()
    except Exception as problem:
        pipe.send(("setup", why(problem)))
        return
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            try:
                answer = ("done", work(task))
            except Exception as problem:
                answer = ("done", Failure(why(problem)))
            pipe.send(answer)


class _Worker:
    def __init__(self, build: Callable[[], Callable[[Any], Any]]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build), daemon=True)
        with unheard():
            self.process.start()
        theirs.close()
        self.task: int | None = None

    def stop(self) -> None:
        self.pipe.close()
        try:
            self.process.join(0.2)
        finally:
            self.process.kill()
            self.process.join()


class _Pool(Generic[T, R]):
    def __init__(
        self, build: Callable[[], Callable[[T], R]], tasks: Sequence[T], done: Callable[[R | Failure], None]
    ) -> None:
        self.build, self.tasks, self.done = build, tasks, done
        self.results: list[R | Failure | None] = [None] * len(tasks)
        self.next = 0
        self.workers: list[_Worker] = []

    def run(self, workers: int) -> list[R | Failure]:
        try:
            for _ in range(min(workers, len(self.tasks))):
                self.workers.append(_Worker(self.build))
            while self.workers:
                for ready in connection.wait([worker.pipe for worker in self.workers]):
                    self.answer(next(worker for worker in self.workers if worker.pipe is ready))
        finally:
            for worker in self.workers:
                worker.pipe.close()  # even if a second signal comes while the first is stopped, none waits for more
            for worker in self.workers:
                worker.stop()
        return [Failure("never ran") if result is None else result for result in self.results]

    def answer(self, worker: _Worker) -> None:
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.bury(worker)
            return
        if kind == "setup":
            raise SetupError(f"a worker could not be built: {value}")
        if kind == "done":
            self.finish(worker, value)
        self.feed(worker)

    def feed(self, worker: _Worker) -> None:
        if self.next == len(self.tasks):
            self.workers.remove(worker)
            worker.stop()
            return
        worker.task = self.next
        self.next += 1
        with suppress(BrokenPipeError):  # A worker that died meanwhile is found when it is next listened to.
            worker.pipe.send(self.tasks[worker.task])

    def finish(self, worker: _Worker, value: R | Failure) -> None:
        assert worker.task is not None
        self.results[worker.task] = value
        worker.task = None
        self.done(value)

    def bury(self, worker: _Worker) -> None:
        """A process died: its task failed, another process takes its place while tasks are left."""
        worker.process.join()
        reason = f"the worker process died with exit code {worker.process.exitcode}"
        if worker.task is None:
            raise SetupError(f"{reason} before its first task")
        self.finish(worker, Failure(reason))
        self.workers.remove(worker)
        worker.stop()
        if self.next < len(self.tasks):
            self.workers.append(_Worker(self.build))


def run_tasks(
    build: Callable[[], Callable[[T], R]],
    tasks: Sequence[T],
    *,
    workers: int,
    done: Callable[[R | Failure], None] = lambda _: None,
) -> list[R | Failure]:
    """`build()(task)` for every task, results in the order of the tasks.

    `workers` spawned processes, each of which calls `build` once and runs on one thread; 0: this process does it all.
    `done` hears of every result as it comes. Raises SetupError if `build` fails anywhere.
    """
    if workers > 0:
        return _Pool(build, tasks, done).run(workers)
    results: list[R | Failure] = []
    with torch_threads(1):
        try:
            work = build()
        except Exception as problem:
            raise SetupError(f"a worker could not be built: {why(problem)}") from problem
        for task in tasks:
            try:
                result: R | Failure = work(task)
            except Exception as problem:
                result = Failure(why(problem))
            results.append(result)
            done(result)
    return results
