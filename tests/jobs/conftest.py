"""Demonstrations and a trained policy, made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest
from matplotlib.figure import Figure

from nextmove import jobs, nn
from nextmove.decoders import Flow
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.sim.tasks import PUSHT, SUITES

SMALL = FlowPolicy(decoder=Flow(trunk=nn.Mlp(width=32, depth=1, time_width=16)))


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.record("pusht", out=tmp_path_factory.mktemp("demos") / "set", episodes=4, workers=0)


@pytest.fixture(scope="session")
def run(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "flow"
    jobs.train("flow-policy", demos, out=out, steps=30, threads=1, recipe=SMALL, holdout=0.25, bf16="off")
    return out


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """PushT's episodes end after five steps, for claims that do not hang on their length (in this process alone)."""
    monkeypatch.setitem(SUITES, "pusht", (replace(PUSHT, max_steps=5),))


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports are composed but not rendered (half a second each), for claims that look at none."""

    def savefig(self: Figure, file: TextIO, **_: Any) -> None:
        file.write('<svg viewBox="0 0 1 1"></svg>')

    monkeypatch.setattr(Figure, "savefig", savefig)
