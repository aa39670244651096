"""Worker processes: what fails or dies is named, the rest is done, and the pool leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from nextmove.host.workers import Failure, SetupError, WorkerPool, run_tasks


def square(task: int) -> int:
    """What 3 raises and 5 dies of."""
    if task == 3:
        raise KeyError("three")
    if task == 5:
        os._exit(7)
    return task * task


def counted(folder: Path) -> Callable[[int], int]:
    """Leaves a file for every process that builds."""
    (folder / str(os.getpid())).touch()
    return square


def raising() -> Any:
    raise ValueError("no such robot")


def dying() -> Any:
    os._exit(9)


def state(task: int) -> tuple[int, set[int], str]:
    import torch

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return torch.get_num_threads(), {int(s) for s in blocked}, os.environ["OPENBLAS_NUM_THREADS"]


def asleep(task: int) -> None:
    time.sleep(60)


def same(work: Any) -> Any:
    return work


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_have_the_order_of_the_tasks(workers: int, tmp_path: Path) -> None:
    heard: list[Any] = []
    assert run_tasks(partial(counted, tmp_path), [4, 1, 4, 2], workers=workers, done=heard.append) == [16, 1, 16, 4]
    assert sorted(heard) == [1, 4, 16, 16]
    assert 1 <= len(list(tmp_path.iterdir())) <= max(workers, 1)
    assert not active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_fails_or_kills_its_worker_is_named_and_the_others_are_done(workers: int, tmp_path: Path) -> None:
    results = run_tasks(partial(counted, tmp_path), [5, 3, 2, 5, 1], workers=workers)
    died = Failure("the worker process died with exit code 7")
    assert [results[0], *results[2:]] == [died, 4, died, 1]
    assert isinstance(results[1], Failure)
    assert "KeyError: 'three'" in results[1].reason
    assert "test_workers.py, line" in results[1].reason


@pytest.mark.parametrize(
    ("build", "workers", "message"),
    [(raising, 0, "no such robot"), (raising, 1, "no such robot"), (dying, 2, "exit code 9 before its first task")],
)
def test_a_worker_that_cannot_be_built_ends_everything(build: Any, workers: int, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        run_tasks(build, [1, 2, 3], workers=workers)
    assert not active_children()


def test_a_worker_runs_on_one_thread_and_leaves_signals_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    (found,) = run_tasks(partial(same, state), [0], workers=1)
    assert not isinstance(found, Failure)
    threads, blocked, blas = found
    assert (threads, blas) == (1, "1")
    assert blocked >= {signal.SIGINT, signal.SIGTERM}
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("OPENBLAS_NUM_THREADS")) == ("3", None)


@pytest.mark.parametrize("workers", [0, 2])
def test_tasks_may_follow_from_results(workers: int) -> None:
    due, found = [1], []

    def next_task() -> int | None:
        return due.pop() if due else None

    with WorkerPool[int, int](partial(same, square), workers) as pool:
        for task, result in pool.run(next_task):
            assert not isinstance(result, Failure)
            found.append((task, result))
            if task == 1:
                due += [6, 7, 8]
    assert sorted(found) == [(1, 1), (6, 36), (7, 49), (8, 64)]


def test_a_pool_that_is_left_ends_its_workers() -> None:
    tasks = iter([1, 2])

    def next_task() -> int:
        if task := next(tasks, None):
            return task
        assert len(active_children()) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WorkerPool[int, None](partial(same, asleep), 3) as pool:
        next(pool.run(next_task))
    assert not active_children()


def test_a_script_that_its_workers_would_run_again_is_named(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    lines = ["from functools import partial", "from nextmove.host.workers import run_tasks"]
    call = "print(run_tasks(partial(partial, abs), [-3], workers=1))"
    for guarded in (False, True):
        guard = ['if __name__ == "__main__":', f"    {call}"] if guarded else [call]
        script.write_text("\n".join([*lines, *guard]))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert (done.returncode == 0) is guarded, done.stderr
        assert ('must stand behind `if __name__ == "__main__":`' in done.stderr) is not guarded
