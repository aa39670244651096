"""Ctrl-C, SIGTERM, full disks: what was done is kept, said in a line, and gone on from by the command it names."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.jobs.test_jobs import random_set

from nextmove import jobs, store
from nextmove.cli.main import main
from nextmove.data.record import RecordingError
from nextmove.evaluation.kept import Kept
from nextmove.host.files import Appended
from nextmove.models.policy.policy import Policy
from nextmove.sim.tasks import PUSHT, SUITES

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def at_call(number: int, function: Callable[..., Any], happens: Callable[[], None]) -> Callable[..., Any]:
    """The function, with something that happens before its call of this number (from 1)."""
    calls = itertools.count(1)

    def wrapped(*args: Any, **options: Any) -> Any:
        if next(calls) == number:
            happens()
        return function(*args, **options)

    return wrapped


def onwards(printed: str) -> list[str]:
    """The arguments of the command that a message names."""
    assert printed.count("\n") == 1, printed
    program, *args = shlex.split(printed.strip().partition("to go on: ")[2])
    assert program == "nextmove"
    return args


def weights(run: Path) -> dict[str, Any]:
    # Copies: the file is mapped, and damaged by a test.
    return {name: value.clone() for name, value in load_file(run / "model" / "model.safetensors").items()}


QUIETLY = ["train", "bc", "--threads", "1", "--bf16", "off", "--no-predict"]
"""Precision is settled and nothing predicted: trying and predicting call the loss before the first step."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_set(tmp_path_factory.mktemp("small") / "a set", 0)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    small: Path, tmp_path: Path, number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [*QUIETLY, str(small), "--steps", "6", "--holdout", "0", "--out"]
    assert main([*train, str(tmp_path / "through")]) == 0
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "loss", at_call(4, Policy.loss, lambda: signal.raise_signal(number)))
        assert main([*train, str(tmp_path / "run")]) == status
    printed = capsys.readouterr().err
    assert f"nextmove train: {tmp_path / 'run'}: stopped at step 4 of a budget of 6 steps; kept as " in printed
    assert store.load(tmp_path / "run" / "model").facts["finished"] is None
    again = onwards(printed)
    assert again[-1] == "--resume"
    assert main(again) == 0
    one, other = weights(tmp_path / "through"), weights(tmp_path / "run")
    assert all(one[name].equal(other[name]) for name in one)


def test_a_signal_in_the_last_step_is_heard(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = [*QUIETLY, str(small), "--steps", "2", "--out", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "loss", at_call(2, Policy.loss, lambda: signal.raise_signal(signal.SIGTERM)))
        assert main([*train, "--holdout", "0"]) == 143
    printed = capsys.readouterr().err
    assert f"stopped at step 2 of a budget of 2 steps; kept as {tmp_path / 'model'}, finished" in printed
    assert main(onwards(printed)) == 0
    assert "already finished at step 2" in capsys.readouterr().out


def test_a_full_disk_is_a_line_and_the_training_goes_on(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "bc", str(small), "--steps", "6", "--threads", "1", "--holdout", "0", "--save-every", "2"]
    train += ["--log-every", "1", "--out"]
    assert main([*train, str(tmp_path / "through")]) == 0
    capsys.readouterr()

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "run" / "train.jsonl"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Appended, "write", at_call(16, Appended.write, full))
        assert main([*train, str(tmp_path / "run")]) == 1
    printed = capsys.readouterr().err
    kept = max((tmp_path / "run" / "checkpoints").glob("last-*"))
    assert printed.startswith(f"nextmove train: {tmp_path / 'run' / 'train.jsonl'}: No space left on device. ")
    assert f"The last checkpoint is {kept}. Make room; to go on: nextmove train" in printed
    assert main(onwards(printed)) == 0
    one, other = weights(tmp_path / "through"), weights(tmp_path / "run")
    assert all(one[name].equal(other[name]) for name in one)


def test_a_recording_on_a_full_disk_names_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(root: Path, **_: Any) -> None:
        raise RecordingError(f"{root}: No space left on device; 3 finished episodes are kept")

    monkeypatch.setattr("nextmove.data.record", full)
    record = ["record", "pusht", "--out", str(tmp_path / "a set")]
    assert main(record) == 1
    assert onwards(capsys.readouterr().err) == record


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "folder"])
def test_a_damaged_model_is_no_hindrance(
    small: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "bc", str(small), "--threads", "1", "--holdout", "0", "--out", str(tmp_path)]
    assert main([*train, "--steps", "2"]) == 0
    before = weights(tmp_path)
    if damage == "folder":
        for path in (tmp_path / "model").iterdir():
            path.unlink()
    else:
        path = tmp_path / "model" / damage
        path.write_bytes(path.read_bytes()[:40])
    assert main([*train, "--steps", "2", "--resume"]) == 0
    assert all(before[name].equal(value) for name, value in weights(tmp_path).items())
    assert main([*train, "--steps", "3", "--resume"]) == 0
    assert store.load(tmp_path / "model").facts["steps"] == 3


def test_resuming_nothing_begins(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "bc", str(small), "--steps", "1", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "there is no checkpoint to resume; beginning anew" in capsys.readouterr().out.replace("\n", " ")


def episodes(report: Path) -> Any:
    policies = json.loads((report / "report.json").read_text())["policies"]
    return {name: [(e["seed"], e["success"], e["max_reward"]) for e in p["episodes"]] for name, p in policies.items()}


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_stopped_evaluation_goes_on_as_if_it_had_not_been(
    run: Path, tmp_path: Path, number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", str(run), "--episodes", "4", "--workers", "0", "--video", "0", "--out"]
    with pytest.MonkeyPatch.context() as short:
        short.setitem(SUITES, "pusht", (replace(PUSHT, max_steps=5),))
        assert main([*evaluate, str(tmp_path / "through")]) == 0
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kept, "add", at_call(3, Kept.add, lambda: signal.raise_signal(number)))
            assert main([*evaluate, str(tmp_path / "out")]) == status
        printed = capsys.readouterr().err.replace("\r", "\n").splitlines(True)[-1]
        assert f"stopped; 2 finished rollouts are kept in {tmp_path / 'out' / 'rollouts'}; to go on" in printed
        played: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kept, "add", lambda self, episode: played.append(episode.seed))
            assert main(onwards(printed)) == 0
        assert played == [100002, 100003]
    assert episodes(tmp_path / "out") == episodes(tmp_path / "through")
    assert not (tmp_path / "out" / "rollouts").exists()


@pytest.mark.usefixtures("unrendered")
def test_a_model_of_a_stopped_training_says_so(
    small: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "model" / "config.json"
    content = json.loads(config.read_text())
    assert content["facts"]["finished"]
    printed = "its training was stopped at step 30 of a budget of 30 steps"
    assert printed not in str(jobs.inspect(tmp_path / "run"))
    content["facts"]["finished"] = None
    config.write_text(json.dumps(content))
    assert f"! not finished: {printed}" in jobs.inspect(tmp_path / "run")
    with pytest.MonkeyPatch.context() as short:
        short.setitem(SUITES, "pusht", (replace(PUSHT, max_steps=5),))
        written = jobs.evaluate(tmp_path / "run", episodes=1, workers=0, video=0, out=tmp_path / "out")
    assert written["verdict"].endswith(f"run is not finished: {printed}.")
    assert f"run is not finished: {printed}." in capsys.readouterr().out
    assert f"run is not finished: {printed}." in (tmp_path / "out" / "report.html").read_text()


def test_a_run_without_a_model_yet_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "checkpoints" / "last-7").mkdir(parents=True)
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert "a run whose training has not ended; the command that began it goes on with --resume" in (
        capsys.readouterr().err
    )
