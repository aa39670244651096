"""One run a folder: who comes second learns who came first, and what died locks nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.jobs.conftest import SMALL

import nextmove
from nextmove import data, jobs, sim
from nextmove.host.lock import LOCK, InUseError, hold

SOURCE = str(Path(nextmove.__file__).parents[1])
HOLDER = (
    "import sys, time; from pathlib import Path; from nextmove.host.lock import hold\n"
    "with hold(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The folder while another process holds it."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def test_who_comes_second_learns_who_came_first(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "run") as other:
        message = (
            rf"run: in use by process {other.pid} on .+ since \d{{4}}-\d\d-\d\d .+ \(.*import sys.*\); wait for it"
        )
        with pytest.raises(InUseError, match=message), hold(tmp_path / "run"):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / "run" / LOCK).exists()
        with hold(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_holder_may_ask_again_and_its_other_threads_may_not(tmp_path: Path) -> None:
    found: list[str] = []

    def elsewhere() -> None:
        try:
            with hold(tmp_path):
                found.append("held")
        except InUseError as problem:
            found.append(str(problem))

    with hold(tmp_path), hold(tmp_path / "." / "x" / ".."):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with pytest.raises(KeyError), hold(tmp_path):
            raise KeyError
        assert (tmp_path / LOCK).exists()
    assert "another thread" in found[0]
    elsewhere()
    assert found[1] == "held"


def test_a_fork_that_outlives_the_holder_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from nextmove.host.lock import hold\n"
        "with hold(Path(sys.argv[1])):\n"
        "    reads, writes = os.pipe()\n"
        "    if os.fork() == 0: os.write(writes, b'1'); sys.stdin.read(); os._exit(0)\n"
        "    os.read(reads, 1); os.kill(os.getpid(), 9)"
    )
    reads, writes = os.pipe()
    env = {**os.environ, "PYTHONPATH": SOURCE}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, stdin=reads, check=False)
    with hold(tmp_path):
        pass
    os.close(reads)
    os.close(writes)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"), hold(tmp_path):
        assert (tmp_path / LOCK).exists()


def episode(number: int) -> Any:
    raise AssertionError


def recorded(out: Path, demos: Path, run: Path) -> Any:
    vector = {"dtype": "float32", "shape": [2], "names": None}
    return data.record(out, features={"action": vector}, fps=10, episode=episode, episodes=1, workers=0)


JOBS: dict[str, tuple[str, Callable[[Path, Path, Path], Any]]] = {
    "train": ("out", lambda out, demos, run: jobs.train("bc", demos, out=out, steps=1)),
    "generator": ("out", lambda out, demos, run: jobs.train("gpt", "stdlib", out=out, steps=1)),
    "record": ("out.recording", recorded),
    "evaluate": ("out", lambda out, demos, run: jobs.evaluate(run, out=out, episodes=1)),
    "offline": ("out", lambda out, demos, run: jobs.evaluate(run, out=out, data=demos)),
    "compare": ("out", lambda out, demos, run: jobs.compare(demos, out=out, demonstrations=(2,), steps=1)),
    "demo": ("out", lambda out, demos, run: jobs.demo(out=out, demonstrations=2)),
    "demo's training": ("out/bc", lambda out, demos, run: jobs.train("bc", demos, out=out / "bc", steps=1)),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Demonstrations with what the simulator shows, and a policy trained on them."""
    root, features = tmp_path_factory.mktemp("small"), sim.task("pusht").entries()
    writer = data.DatasetWriter(root / "set", features, sim.task("pusht").fps)
    for _ in range(2):
        columns = {n: np.random.default_rng(0).normal(size=(20, *f["shape"])) for n, f in features.items()}
        writer.add_episode({n: x.astype(features[n]["dtype"]) for n, x in columns.items()}, "x")
    writer.finalize()
    jobs.train("flow-policy", root / "set", out=root / "run", steps=1, threads=1, recipe=SMALL, holdout=0)
    return root / "set", root / "run"


@pytest.mark.parametrize("name", JOBS)
def test_every_job_that_writes_a_folder_leaves_it_to_its_holder(
    small: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    folder, job = JOBS[name]
    with held_by_another(tmp_path / folder) as other:
        with pytest.raises(InUseError, match=rf"{folder}: in use by process {other.pid}"):
            job(tmp_path / "out", *small)
        assert [path.name for path in (tmp_path / folder).iterdir() if path.is_file()] == [LOCK]
