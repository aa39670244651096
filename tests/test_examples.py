"""Every example runs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"drive.py", "ten_lines.py", "two_modes.py"}


def test_ten_lines_and_driving_what_they_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["ten_lines.py", "0.05", "2", "1", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "ten_lines.py"), run_name="__main__")
    assert "'episodes': 1" in capsys.readouterr().out
    for runtime in ("torch", "openvino"):
        monkeypatch.setattr(sys, "argv", ["drive.py", str(tmp_path / "flow"), runtime])
        runpy.run_path(str(EXAMPLES / "drive.py"), run_name="__main__")
        assert "ticks at 10 a second\na tick takes" in capsys.readouterr().out
    torch.set_num_threads(threads)


def test_two_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["two_modes.py", "300", str(tmp_path / "modes.png")])
    runpy.run_path(str(EXAMPLES / "two_modes.py"), run_name="__main__")
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    avoided = {name: int(row.split("obstacle")[1].split("%")[0]) for name, row in rows.items()}
    above = {name: int(row.split("above")[1].split("%")[0]) for name, row in rows.items()}
    assert avoided["regression"] == 0
    for name in ("mixture", "diffusion", "flow", "MeanFlow"):
        assert avoided[name] > 70, name
        assert 20 < above[name] < 80, name
    assert (tmp_path / "modes.png").stat().st_size > 1000
