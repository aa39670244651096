"""Two processes give the run of one."""

from __future__ import annotations

import ast
import gc
import json
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training import pairing
from tests.training.masked import RULES, apart, gradients
from tests.training.two_processes import go

from nextmove.training.distributed import World, _buckets

ROOT = Path(__file__).parents[2]


def losses(out, kind):
    found = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in found if line["kind"] == kind]


def launch(module, folder, timeout):
    """Runs a module in two processes under torchrun; if they fail or hang, the error says what they have printed.

    Its arguments: the folder, and until when it must be done, in seconds since 1970.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    process = subprocess.Popen(
        [*launcher, "-m", module, str(folder), str(time.time() + timeout - 5)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # The launcher ends its processes before itself.
        process.terminate()
        printed, _ = process.communicate(timeout=60)
        printed += f"\nstopped after {timeout} s"
    assert process.returncode == 0, printed[-8000:]


def test_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    # A guard against a hang: on a busy machine three processes that import torch take a minute and more.
    launch("tests.training.two_processes", tmp_path / "two", timeout=300)
    result, _ = go(tmp_path / "one")
    for kind in ("step", "validation"):
        one, two = (losses(tmp_path / name, kind) for name in ("one", "two"))
        assert [step for step, _ in one] == [step for step, _ in two]
        assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=1e-5)
    saved = load_file(tmp_path / "two" / "checkpoints" / "last-10" / "state.safetensors")
    for name, value in result.ema.items():
        if name != "seen":
            torch.testing.assert_close(saved[f"ema/{name}"], value, rtol=1e-4, atol=1e-5)
    # So do losses that leave out padding, of which these processes have unlike shares.
    for rule in RULES:
        for rank in (0, 1):
            assert apart(gradients(rule), load_file(tmp_path / "two" / f"{rule}-{rank}.safetensors")) < 1e-6
    # And losses that compare rows of both.
    for rule, contrast in pairing.PAIRING.items():
        for rank in (0, 1):
            found = load_file(tmp_path / "two" / f"{rule}-{rank}.safetensors")
            assert apart(pairing.gradients(contrast), found) < 1e-9
    # Every process reports the same numbers, to the last bit.
    texts = [(tmp_path / "two" / f"loss-{rank}.txt").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert len(ast.literal_eval(texts[0])) == 4


def test_what_is_sent_lives_as_long_as_its_world(monkeypatch):
    """The thread that sends it may keep it for a while; were it the last to have it, leaving the group could hang."""
    sent = []

    def send(tensor, source=0):
        sent.append((tensor.dtype, tensor.numel(), weakref.ref(tensor)))

    monkeypatch.setattr(torch.distributed, "all_reduce", send)
    monkeypatch.setattr(torch.distributed, "broadcast", send)
    world, layer = World(1, 2), torch.nn.Linear(3, 2)
    layer(torch.ones(4, 3)).sum().backward()
    for _ in range(2):
        assert world.sum([1.5, 2]) == [1.5, 2]
        assert world.gather(torch.ones(2, 3, dtype=torch.bool)).tolist() == [[False] * 3] * 2 + [[True] * 3] * 2
        world.mean_gradients(list(layer.parameters()))
        world.share([*layer.state_dict().values(), torch.tensor(3), torch.tensor(True)])
        world.wait()
    gc.collect()
    assert all(tensor() is not None for _, _, tensor in sent)
    # The second time they were the same tensors, so nothing piles up.
    assert len({id(tensor()) for _, _, tensor in sent}) == len({(dtype, size) for dtype, size, _ in sent}) == 6
    assert layer.weight.grad.tolist() == [[1.0] * 3] * 2


def test_alone_nothing_is_sent():
    world = World()
    assert world.sum([1.5, 2]) == [1.5, 2]
    layer = torch.nn.Linear(1, 1)
    world.mean_gradients(list(layer.parameters()))
    assert layer.weight.grad is None


def test_buckets_keep_order_and_dtype(monkeypatch):
    monkeypatch.setattr("nextmove.training.distributed.BUCKET", 5)
    sizes = [2, 3, 1, 9, 1, 1]
    tensors = [torch.zeros(n) for n in sizes] + [torch.zeros(1, dtype=torch.bfloat16)]
    found = [[t.numel() for t in bucket] for bucket in _buckets(tensors)]
    assert found == [[2, 3], [1], [9], [1, 1], [1]]
