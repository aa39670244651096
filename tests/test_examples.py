"""Every example runs."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.sim.lamps import LAMPS

from nextmove import control, jobs, sim, store
from nextmove.contracts import TASK, Feature
from nextmove.encoders import Instruction, Observation, State
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.bc import BC
from nextmove.nn.text_encoder import TextEncoder
from nextmove.sim.pusht import PushT

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"drive.py", "ten_lines.py", "two_modes.py"}


def example(name: str, *given: str) -> str:
    """What an example prints."""
    printed, threads = io.StringIO(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, *given])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    torch.set_num_threads(threads)
    return printed.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run that ten_lines.py leaves."""
    folder = tmp_path_factory.mktemp("ten")
    assert "'episodes': 1" in example("ten_lines.py", "0.05", "2", "1", str(folder))
    return str(folder / "flow")


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_driving_what_ten_lines_trained(trained: str, runtime: str) -> None:
    printed = example("drive.py", trained, "--runtime", runtime)
    assert "ticks at 10 a second\na tick takes" in printed
    assert printed.endswith("\n0 ticks late, 0 missed, the latest by 0.0 ms\n")


def test_late_ticks_are_counted(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time, of a robot that takes a tick and a half every second time."""
    wall, taken = control.VirtualTime(), itertools.cycle((0.01, 0.15))

    class Slow(PushT):
        def step(self, action: Any) -> Any:
            wall.sleep(next(taken))
            return super().step(action)

    task = sim.task("pusht")
    monkeypatch.setattr(sim, "make", lambda *given, **more: sim.Environment(task, Slow(task, {})))
    monkeypatch.setattr(control, "Clock", functools.partial(control.Clock, now=wall.now, sleep=wall.sleep))
    printed = example("drive.py", trained, "--real")
    ticks = int(printed.split(" in ")[1].split()[0])
    assert printed.endswith(f"\n{ticks // 2} ticks late, {ticks // 2} missed, the latest by 50.0 ms\n")


def test_an_instruction_is_for_a_policy_that_reads_one(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"--task: .*flow takes no instruction, it reads observation"):
        example("drive.py", trained, "--task", "Push the T.")
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)
    words = Instruction(TextEncoder(width=8, layers=1, heads=1), length=32)
    spec = PolicySpec({"observation.state": Feature("state", (1,)), TASK: Feature("text")}, 1, 10.0)
    recipe = BC(encoder=Observation((State(), words)), timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2))
    policy = store.create("bc", spec, recipe)
    policy.fit([{"observation.state": torch.randn(9, 1, 1), TASK: ["a"] * 9, "action": torch.randn(9, 2, 1)}])
    heard: list[str] = []
    monkeypatch.setattr(policy.eval().encoder, "forward", _listening(policy.encoder.forward, heard))
    monkeypatch.setattr(jobs, "load_policy", lambda run, **options: policy)
    printed = example("drive.py", "run", "--world", "touch", "--task", "Stand still.")
    assert "ticks at 10 a second" in printed
    assert set(heard) == {"Stand still."}


def test_a_policy_of_another_robot_is_named_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PolicySpec({"observation.images.wrist": Feature("image", (32, 32, 3))}, 7, 10.0)
    policy = store.create("bc", spec, BC(timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2)).seeing(spec.inputs))
    monkeypatch.setattr(jobs, "load_policy", lambda run, **options: policy.eval())
    with pytest.raises(SystemExit, match=r"drive\.py: .*wrist") as stopped:
        example("drive.py", "run")
    assert isinstance(stopped.value.code, str)  # Printed, with exit code 1.
    with pytest.raises(SystemExit, match=r"drive\.py: .*nowhere"):
        example("drive.py", "run", "--world", "nowhere")


def _listening(forward: Any, heard: list[str]) -> Any:
    def told(obs: Any, **options: Any) -> Any:
        heard.extend(obs[TASK])
        return forward(obs, **options)

    return told


def test_two_modes_is_drawn(tmp_path: Path) -> None:
    assert len(example("two_modes.py", "2", str(tmp_path / "modes.png")).splitlines()) == 6
    assert (tmp_path / "modes.png").stat().st_size > 1000


@pytest.mark.slow
def test_two_modes(tmp_path: Path) -> None:
    rows = {line.split()[0]: line for line in example("two_modes.py", "300", str(tmp_path / "modes.png")).splitlines()}
    avoided = {name: int(row.split("obstacle")[1].split("%")[0]) for name, row in rows.items()}
    above = {name: int(row.split("above")[1].split("%")[0]) for name, row in rows.items()}
    assert avoided["regression"] == 0
    for name in ("mixture", "diffusion", "flow", "MeanFlow"):
        assert avoided[name] > 70, name
        assert 20 < above[name] < 80, name
