"""A policy that reads an instruction: from a data set's table of tasks to training, saving, planning and judging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nextmove import data, jobs, store
from nextmove.contracts import Optim, seeded
from nextmove.data import DataError
from nextmove.decoders import Regression
from nextmove.encoders import Instruction, Observation, State
from nextmove.jobs import precise
from nextmove.jobs.provenance import choose
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.bc import BC
from nextmove.nn import PlainMlp
from nextmove.nn.text_encoder import TextEncoder

TASKS = ("go left", "go right")
READER = Instruction(TextEncoder(width=16, layers=1, heads=2), length=16)
RECIPE = BC(
    encoder=Observation(parts=(State(noise=0.0), READER)),
    actions=ActionSpace(scaling="min_max"),
    decoder=Regression(trunk=PlainMlp((32,))),
    optim=Optim(lr=1e-2, batch=16, warmup=0, ema=0.0),
)


def demonstrations(root: Path, tasks: tuple[str, ...]) -> Path:
    """Eight episodes of one joint that moves as the instruction says, wherever it is."""
    entries = {n: {"dtype": "float32", "shape": [1], "names": None} for n in ("observation.state", "action")}
    writer = data.DatasetWriter(root, entries, 10)
    for i in range(8):
        where = np.random.default_rng(i).normal(size=(20, 1)).astype(np.float32)
        way = np.full_like(where, (-1, 1)[i % 2])
        writer.add_episode({"observation.state": where, "action": way}, tasks[i % len(tasks)])
    return writer.finalize()


def test_what_it_does_is_what_it_is_asked_to(tmp_path: Path) -> None:
    root = demonstrations(tmp_path / "set", TASKS)
    out = tmp_path / "run"
    trained = jobs.train("bc", root, out=out, steps=60, threads=1, holdout=0.25, accumulate=2, recipe=RECIPE)
    loaded = store.load(out / "model")
    obs = {"observation.state": torch.randn(3, 2, 1), "task": ["go left", "go right", "go left"]}
    for policy in (trained, loaded):
        plan = policy.act(obs, rng=seeded(0)).actions
        assert plan[:, 0, 0].sign().tolist() == [-1, 1, -1]
        assert plan.abs().min() > 0.5
    assert (out / "model" / "tokenizer.json").is_file()
    # A precision is measured on what the policy reads of a data set, its instruction included.
    assert {seen["task"][0] for seen in precise.of_data(loaded, root)} == set(TASKS)
    with pytest.raises(ValueError, match="expected an instruction"):
        loaded.act({"observation.state": obs["observation.state"]}, rng=seeded(0))
    # The frames trained on are known again under other words, though no episode is what it was.
    same = choose(loaded, data.open_dataset(root))
    assert (same.counts["kept"], same.counts["seen"]) == (2, 6)
    other = choose(loaded, data.open_dataset(demonstrations(tmp_path / "reworded", ("move left", "move right"))))
    assert (other.counts["seen"], other.counts["new"], other.counts["alike"]) == (0, 2, 6)


def test_a_data_set_without_instructions_is_named(tmp_path: Path) -> None:
    root = demonstrations(tmp_path / "set", ("",))
    with pytest.raises(DataError, match="set: task: expected instructions, found only empty ones"):
        jobs.train("bc", root, out=tmp_path / "run", steps=1, recipe=RECIPE)
