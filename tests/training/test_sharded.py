"""Weights in shares on two processes give the run of one, and each number of processes goes on from any other's."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import load_file
from tests.training.test_distributed import launch, losses
from tests.training.two_shares import Deep, go

from nextmove.training import sharded
from nextmove.training.checkpoint import CheckpointError, read
from nextmove.training.distributed import World

NEWER = hasattr(torch.distributed.checkpoint, "HuggingFaceStorageReader")


@pytest.mark.skipif(not NEWER, reason="this torch's Distributed Checkpoint writes pickles alone, which is refused")
def test_shares_on_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    two = tmp_path / "two"
    go(two / "one", stop=6)
    launch("tests.training.two_shares", two, timeout=300)
    result, _ = go(tmp_path / "whole")
    for kind in ("step", "validation"):
        expected = losses(tmp_path / "whole", kind)
        for run in ("through", "half", "one"):
            found = losses(two / run, kind)
            assert [step for step, _ in found] == [step for step, _ in expected]
            assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-6)
    for rank in (0, 1):
        saved = load_file(two / f"ema-{rank}.safetensors")
        for name, value in result.ema.items():
            if name != "seen":
                torch.testing.assert_close(saved[name], value, rtol=1e-6, atol=1e-9)
    # Each process has written its share, nothing is pickled, and what is frozen is a hash.
    last = two / "half" / "checkpoints" / "last-6"
    names = sorted(path.name for path in (last / "shares").iterdir())
    assert len(names) == 2
    assert all(name.endswith(".safetensors") for name in names)
    facts = json.loads((last / "state.json").read_text())
    assert set(facts["frozen"]) == {"given.weight", "given.bias"}
    assert sorted(facts["shares"]) == names
    # One process goes on from the shares of two.
    shutil.copytree(two / "half", tmp_path / "alone")
    shutil.rmtree(tmp_path / "alone" / "checkpoints" / "last-10")
    alone, _ = go(tmp_path / "alone", resume=True)
    for name, value in result.ema.items():
        torch.testing.assert_close(alone.ema[name], value, rtol=1e-6, atol=1e-9)
    # A damaged share is found by its checksum, and the checkpoint before it is taken.
    share = last / "shares" / names[0]
    content = share.read_bytes()
    share.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{names[0]}: damaged"):
        read(last)


def test_one_process_shares_nothing(tmp_path):
    plain, _ = go(tmp_path / "a")
    asked, _ = go(tmp_path / "b", sharded=True)
    assert all(torch.equal(asked.ema[name], value) for name, value in plain.ema.items())
    assert not list((tmp_path / "b").rglob("shares"))


def test_an_older_torch_is_refused_by_name(monkeypatch):
    monkeypatch.delattr(torch.distributed.checkpoint, "HuggingFaceStorageReader", raising=False)
    with pytest.raises(ValueError, match=r"sharded: expected PyTorch 2\.9 or newer, found"):
        sharded.write(None, {})


def test_plain_tensors_are_their_own_shares():
    x = torch.arange(3.0)
    assert sharded.local(x) is x
    assert sharded.whole(x).data_ptr() != x.data_ptr()
    layer = Deep().given
    layer(torch.ones(2, 4)).sum().backward()
    norm = sharded.norm(list(layer.parameters()), World())
    assert float(norm) == pytest.approx(float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()))
