"""What kills, signals and full disks cost: a table for docs/data.

    python benchmarks/interruptions.py [--out docs/data/interruptions.json] [--only kill,signals,disk]

kill: `nextmove train` of 60 seconds, killed with -9 at 20 random moments, then gone on from. signals: SIGTERM and
SIGINT five times each at random moments of train, record, evaluate and compare; then the command that each names.
disk: the same four on a file system of 6 MB (tmpfs, needs root) that fills while they run; then room is made.
Every training step pauses for a moment, so that a training has its length whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from forked import Command, done, logged, steps
from nextmove.evaluation.machine import machine
from nextmove.models.policy import bc
from nextmove.nn import PlainMlp
from nextmove.sim.tasks import PUSHT, SUITES

PAUSE = 0.1
COLUMNS = [
    "command",
    "what happens",
    "tries",
    "exit status",
    "said in a line, with what goes on",
    "lost",
    "gone on from",
]


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder: its arguments, what is finished of it, and what its result is."""

    name: str
    args: Callable[[Path, int], list[str]]
    finished: Callable[[Path], int]
    result: Callable[[Path], Any]
    unit: str
    pause: float = 0.0


def weights(out: Path) -> dict[str, bytes]:
    """The bytes of a trained model's tensors."""
    return {name: value.numpy().tobytes() for name, value in load_file(out / "model" / "model.safetensors").items()}


def files(out: Path) -> dict[str, bytes]:
    """The bytes of a folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def episodes(out: Path) -> Any:
    """What a report says of every episode."""
    found = json.loads((out / "report.json").read_text())["policies"]
    return {
        name: [(e["seed"], e["success"], e["max_reward"], e["steps"]) for e in p["episodes"]]
        for name, p in found.items()
    }


def compared(out: Path) -> Any:
    """What a comparison says of every episode, and the weights of its trainings."""
    return episodes(out), [weights(path) for path in sorted((out / "train").iterdir())]


def small() -> None:
    """A small network for BC, and short episodes: what is tried here has nothing to do with either."""
    bc.PlainMlp = partial(PlainMlp, widths=(32,))  # type: ignore[attr-defined]
    SUITES["pusht"] = (replace(PUSHT, max_steps=60),)


def jobs(data: Path, model: Path) -> list[Job]:
    """The four commands on small data."""
    train = f"train bc {data} --threads 1 --holdout 0.25 --log-every 1 --steps {{}} --out {{}} --save-every 10"
    record = "record pusht --episodes 5 --workers 1 --out {}"
    evaluate = f"evaluate {model} --episodes 12 --workers 0 --video 1 --out {{}}"
    compare = f"compare {data} --entries bc --demonstrations 2 --train-seeds 0 1 --steps 15 --episodes 3 --out {{}}"

    def rollouts(out: Path) -> int:
        return sum(path.name != "key.json" for path in (out / "rollouts").glob("*.json"))

    return [
        Job("train", lambda out, n: train.format(n or 60, out).split(), logged, weights, "steps", PAUSE),
        Job(
            "record",
            lambda out, _: record.format(out).split(),
            lambda out: sum(p.is_dir() for p in out.with_name(out.name + ".recording").glob("episode-*")),
            files,
            "finished episodes",
        ),
        Job("evaluate", lambda out, _: evaluate.format(out).split(), rollouts, episodes, "finished rollouts"),
        Job(
            "compare",
            lambda out, _: compare.format(out).split(),
            lambda out: len(list((out / "judged").glob("*.json"))),
            compared,
            "judged lines",
            PAUSE,
        ),
    ]


def killed(job: Job, place: Path, seconds: float, tries: int, parallel: int) -> list[Any]:
    """kill -9 at random moments of a training of so many seconds, `parallel` trainings at a time."""
    length = round(seconds / PAUSE)
    # By time, as by default.
    args = {i: job.args(place / f"kill-{i}", length)[:-2] for i in range(-1, tries)}
    moments = [seconds * (i + random.random()) / tries for i in range(tries)]
    whole = Command(args[-1], place / "kill.log", PAUSE)
    lost, later = [], []
    for first in range(0, tries, parallel):
        batch = {
            i: Command(args[i], place / f"kill-{i}.log", PAUSE) for i in range(first, min(first + parallel, tries))
        }
        for i, command in batch.items():
            command.wait(lambda i=i: logged(place / f"kill-{i}") > 0)
            command.began = time.monotonic() - PAUSE
        for i, command in sorted(batch.items(), key=lambda pair: pair[1].began + moments[pair[0]]):
            command.wait(lambda i=i, command=command: time.monotonic() >= command.began + moments[i])
            command.send(signal.SIGKILL)
            kept = [path.stat().st_mtime for path in (place / f"kill-{i}" / "checkpoints").glob("last-*")]
            since = time.time() - max(kept) if kept else time.monotonic() - command.began
            lost.append(since)
            later.append(Command([*args[i], "--resume"], place / f"kill-{i}.log", PAUSE))
        for command in later:
            command.wait()
    whole.wait()
    expected = weights(place / "kill--1")
    same = sum(weights(place / f"kill-{i}") == expected for i in range(tries))
    loss = f"{max(lost):.0f} s at most, {sum(lost) / tries:.0f} s on average"
    return [job.name, f"kill -9 in {seconds:g} s", tries, "-9", "–", loss, f"equal to the bit, {same} of {tries}"]


def signalled(job: Job, place: Path, number: signal.Signals, tries: int, whole: Command, expected: Any) -> list[Any]:
    """A signal at random moments of a command, and the command that goes on."""
    codes: Counter[int] = Counter()
    said = lost = same = 0
    for i in range(tries):
        out = place / f"{job.name}-{number.name}-{i}"
        left = 0.9 * whole.seconds  # type: ignore[attr-defined]
        while True:
            command = Command(job.args(out, 0), out.with_suffix(".log"), job.pause)
            moment = time.monotonic() + left * (0.1 + 0.9 * (i + random.random()) / tries)
            if command.wait(lambda moment=moment: time.monotonic() >= moment):
                break
            left *= 0.8  # it was faster than the uninterrupted one
            shutil.rmtree(out)
        before = job.finished(out)
        command.send(number)
        codes[command.status] += 1
        said += len(command.lines) == 1 and "to go on: nextmove" in command.lines[0]
        kept = max(steps(out), default=0) if job.name == "train" else job.finished(out)
        lost += max(0, before - kept) if kept or before > 1 else before
        done(command.onwards(), out.with_suffix(".log"), job.pause)
        same += job.result(out) == expected
    status = ", ".join(f"{code} ({count} of {tries})" for code, count in codes.items())
    return [
        job.name,
        number.name,
        tries,
        status,
        f"{said} of {tries}",
        f"{lost} {job.unit}",
        f"equal, {same} of {tries}",
    ]


@contextmanager
def disk(place: Path, megabytes: int = 6) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, left: int) -> Path:
    """A file that leaves so many bytes of a file system."""
    path = place / "ballast"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(handle, bytes(4096)):
            pass
    except OSError:
        os.ftruncate(handle, max(0, os.fstat(handle).st_size - left))
    os.close(handle)
    return path


def filled(job: Job, place: Path, expected: Any) -> list[Any]:
    """The disk fills while a command runs; then there is room again, and the command that was named goes on."""
    begun, left = {"train": (25, 0), "record": (1, 8192), "evaluate": (2, 8192), "compare": (1, 8192)}[job.name]
    log = place / f"disk-{job.name}.log"
    with disk(place / f"disk-{job.name}") as root:
        out = root / "out"
        command = Command(job.args(out, 0), log, job.pause)
        command.wait(lambda: job.finished(out) >= begun)
        before, ballast = job.finished(out), fill(root, left)
        command.wait()
        kept = max(steps(out), default=0) if job.name == "train" else job.finished(out)
        lines = command.lines
        scratch = [path.name for path in root.rglob("*") if ".part" in path.name]
        ballast.unlink()
        done(command.onwards(), log, job.pause)
        same = job.result(out) == expected
    good = len(lines) == 1 and str(root) in lines[0] and not scratch
    said = "1 of 1" if good else f"no: {lines} {scratch}"
    lost = f"{max(0, before - kept)} {job.unit}"
    return [job.name, "a disk of 6 MB fills", 1, str(command.status), said, lost, "equal" if same else "not equal"]


def table(given: argparse.Namespace, place: Path) -> list[list[Any]]:
    """All rows."""
    data, model = place / "demos", place / "policy"
    done(["record", "pusht", "--out", str(data), "--episodes", "3", "--workers", "0"], place / "demos.log")
    small()
    done(["train", "bc", str(data), "--out", str(model), "--steps", "30", "--threads", "1"], place / "policy.log")
    rows = []
    for job in jobs(data, model):
        if job.name not in given.commands:
            continue
        if job.name == "train" and "kill" in given.only:
            rows.append(killed(job, place, given.seconds, given.kills, given.parallel))
            print(rows[-1], flush=True)
        whole = done(job.args(place / job.name, 0), place / f"{job.name}.log", job.pause)
        whole.seconds = time.monotonic() - whole.began  # type: ignore[attr-defined]
        expected = job.result(place / job.name)
        if "signals" in given.only:
            for number in (signal.SIGTERM, signal.SIGINT):
                rows.append(signalled(job, place, number, given.tries, whole, expected))
                print(rows[-1], flush=True)
        if "disk" in given.only:
            rows.append(filled(job, place, expected))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/data/interruptions.json"))
    parser.add_argument("--only", default="kill,signals,disk")
    parser.add_argument("--commands", default="train,record,evaluate,compare")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=10, help="trainings killed at a time; they mostly pause")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as place:
        rows = table(given, Path(place))
    content = {
        "title": "Kills, signals and full disks",
        "command": "python benchmarks/interruptions.py",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": "Random moments, spread over the command's whole length; what was lost is what had been finished and "
        "was not kept. Then the command that the message names (after kill -9 the same with `--resume`) ran to its "
        "end, and its result was compared with that of a run that was left alone: weights and recorded files to the "
        "bit, every episode of reports. The full disk is a tmpfs; networks are small and episodes short.",
        "columns": COLUMNS,
        "rows": rows,
    }
    given.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
