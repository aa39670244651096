"""What the library takes from its user: folders by name, and a policy that a type checker knows."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nextmove import contracts, data, evaluation, interop, jobs, store, training
from nextmove.config import ConfigError
from nextmove.models.policy import Policy

TEXT = "to be or not to be, that is the question; " * 40


def public() -> list[Callable[..., Any]]:
    """Functions of the rooms that a user calls, and what makes the writer of data sets."""
    found: list[Callable[..., Any]] = [data.DatasetWriter.__init__, store.save, store.load, store.read_config]
    for room in (data, evaluation, interop, interop.hf, interop.lerobot, jobs, training):
        found += [value for name in room.__all__ if inspect.isfunction(value := getattr(room, name))]
    return found


@pytest.mark.parametrize("function", public(), ids=lambda f: f"{f.__module__}.{f.__qualname__}")
def test_paths_may_be_strings(function: Callable[..., Any]) -> None:
    for name, hint in function.__annotations__.items():
        kinds = hint.split(" | ")
        assert name == "return" or "Path" not in kinds or "str" in kinds, f"{name}: {hint}"


@pytest.mark.usefixtures("short", "unrendered")
def test_strings_do_what_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert jobs.record("pusht", out="demos", episodes=1, workers=0) == Path("demos")
    policy = jobs.train("bc", "demos", out="bc", steps=2, threads=1)
    assert jobs.load_policy("bc").state_dict().keys() == store.load("bc/model").state_dict().keys()
    assert store.save(policy, "saved") == Path("saved")
    assert "demos" in jobs.inspect("demos")
    assert data.doctor("demos") == data.doctor(Path("demos"))
    few: dict[str, Any] = {"episodes": 1, "workers": 0, "video": 0}
    assert jobs.evaluate("bc", out="judged", **few)["policies"].keys() == {"bc"}
    assert jobs.evaluate("bc", data="demos", out="offline")["policies"].keys() == {"bc"}
    assert jobs.compare("demos", out="all", entries=("bc",), demonstrations=(1,), steps=2, **few)["best_first"]
    assert evaluation.read_entry("all/judged/bc-n1-s0.json").name == "bc-n1-s0"


def test_strings_do_what_paths_do_for_generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    jobs.train("rnn", Path("text.txt"), out="rnn", steps=1, length=8)
    assert jobs.generate("rnn", length=4, out="drawn.txt") == Path("drawn.txt").read_text()
    assert jobs.judge_generator("rnn", data=Path("text.txt"), out="judged")
    with pytest.raises(ConfigError, match=r"model: expected a policy, found a generator of .* of nextmove \(rnn\)"):
        jobs.load_policy("rnn")


def test_a_type_checker_takes_a_policy_for_an_actor() -> None:
    """`make types` checks the use in `jobs.evaluate`; it holds as long as an actor's numbers need not be set."""
    assert typing.get_type_hints(jobs.load_policy)["return"] is Policy
    for name in ("n_obs_steps", "n_action_steps", "horizon"):
        assert isinstance(inspect.getattr_static(contracts.Actor, name), property), name


@pytest.mark.parametrize("name", jobs.__all__)
def test_every_job_says_what_it_raises(name: str) -> None:
    assert "\n    Raises:\n" in (getattr(jobs, name).__doc__ or "")
