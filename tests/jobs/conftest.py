"""Demonstrations and a trained policy, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextmove import jobs, nn
from nextmove.decoders import Flow
from nextmove.models.policy.flow_policy import FlowPolicy

SMALL = FlowPolicy(decoder=Flow(trunk=nn.Mlp(width=32, depth=1, time_width=16)))


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.record("pusht", out=tmp_path_factory.mktemp("demos") / "set", episodes=4, workers=0)


@pytest.fixture(scope="session")
def run(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "flow"
    jobs.train("flow-policy", demos, out=out, steps=30, threads=1, recipe=SMALL, holdout=0.25, bf16="off")
    return out
