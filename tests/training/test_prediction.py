"""Memory and time foreseen from a few rows: equal to what all rows take, said before the first step and checked."""

from __future__ import annotations

import json
import mmap

import numpy as np
import pytest
import torch
from tests.training.tiny import Tiny, batches, run
from torch import nn

from nextmove.contracts import _torch
from nextmove.host import memory
from nextmove.training import prediction
from nextmove.training.live import most, timeline
from nextmove.training.parts import first_rows
from nextmove.training.prediction import Taken, compared, warned

CPU = torch.device("cpu")


def test_bytes_are_those_of_tensors_that_somebody_holds(monkeypatch):
    weight = torch.ones(100, 100, requires_grad=True)
    kept = []

    def compute():
        kept.append(torch.ones(8, 100) @ weight)
        (torch.ones(8, 100) @ weight).sum()
        kept[0].sum().backward()

    found = timeline(compute, [weight])
    assert found[:2].tolist() == [3200, 6400]
    assert found[-1] - 3200 - weight.nbytes <= 8  # what was multiplied has gone, the gradient is there
    monkeypatch.setattr(_torch, "_DISPATCH", None)
    assert timeline(compute) is None
    monkeypatch.undo()
    assert timeline(lambda: weight.t().detach()[1:], [weight]).max() == 0


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("width", [4, 400])
def test_a_few_rows_tell_what_all_of_them_take(rows, width):
    """With many weights and few rows gradients are most, with many rows what the backward pass reads."""
    net = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())

    def compute(count):
        net.zero_grad()
        net(torch.ones(count, width)).sum().backward()

    foreseen = most(compute, rows, net.parameters(), CPU)
    assert foreseen == timeline(lambda: compute(rows), net.parameters()).max()


def test_a_run_says_what_it_will_take_and_what_it_took(tmp_path, capsys):
    run(tmp_path, Tiny(width=64), steps=3, progress="lines")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("predicted: ")
    assert "a step" in lines[0]
    assert "3 steps in 0:00:0" in lines[0]
    assert any(line.startswith("predicted ") and "; found " in line and "a step (" in line for line in lines[1:])
    log = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert log[0]["predicted"]["seconds"] > 0
    assert log[-1]["took"]["seconds"] > 0
    if memory.forget_peak():
        assert log[-1]["took"]["bytes"] == pytest.approx(log[0]["predicted"]["bytes"], rel=0.5)


def test_a_trial_changes_nothing(tmp_path):
    with_it, without = (run(tmp_path / str(said), Tiny(), steps=4, predict=said) for said in (True, False))
    assert [report.loss for report in with_it[1]] == [report.loss for report in without[1]]
    assert all(torch.equal(with_it[0].ema[name], value) for name, value in without[0].ema.items())
    log = [json.loads(line) for line in (tmp_path / "False" / "train.jsonl").read_text().splitlines()]
    assert "predicted" not in log[0]


def test_what_does_not_fit_is_said_with_what_takes_less(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    monkeypatch.setattr(memory, "resident", lambda: 10**9)
    assert warned(Taken(1.9e9, 1.0), CPU) is None
    assert "a step takes 2.10 GB, there are 2.00 GB; less take --gradient-checkpointing" in warned(Taken(2.1e9, 1), CPU)
    assert warned(Taken(None, 1.0), CPU) is None
    assert compared(Taken(2e9, 0.5), Taken(1e9, 1.0)) == (
        "predicted 500 ms a step, 2.00 GB of memory; found 1 s a step (+100 %), 1.00 GB (-50 %)"
    )


def test_a_model_that_few_rows_cannot_train_has_no_prediction_of_memory(monkeypatch):
    monkeypatch.setattr(prediction, "most", lambda *_: (_ for _ in ()).throw(ValueError("two rows at least")))
    options = {"parts": 2, "moments": False, "known": [], "device": CPU}
    foreseen = prediction.foresee(lambda rows: None, rows=4, trained=[torch.ones(3)], **options)
    assert foreseen.bytes is None
    assert str(foreseen).endswith("a step")


def test_first_rows_cut_all_that_has_rows():
    batch = next(batches()(0, 0, 1)) | {"more": {"y": torch.arange(16)}}
    cut = first_rows(batch, 3)
    assert [len(cut["x"]), len(cut["task"]), cut["more"]["y"].tolist()] == [3, 3, [0, 1, 2]]
    assert first_rows(batch, 40) is batch


def _taken(size):
    """Memory fresh from the system; `np.ones` may get pages that earlier tests left to the allocator."""
    taken = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    taken.write(b"1" * size)
    return taken


def test_pages_of_mapped_files_are_no_memory_that_a_step_takes(tmp_path):
    """As the frames of a store: they fill the process while rows are gathered, and the system takes them back."""
    if not memory.forget_peak() or memory.of_files() is None:
        pytest.skip("this system does not say what a process holds")
    path, size = tmp_path / "frames", 64 << 20
    path.write_bytes(b"1" * size)
    peak, before = memory.Peak(), memory.resident()
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert np.frombuffer(mapped, np.uint8)[::4096].sum() > 0
    assert memory.resident() - before > size // 2
    assert peak.look() - before < size // 4
    kept = _taken(size)
    assert peak.look() - before > size // 2
    kept.close()
    assert peak.look() - before > size // 2


def test_what_operators_take_for_themselves_is_predicted(monkeypatch):
    if not memory.forget_peak():
        pytest.skip("this system does not say what a process holds")

    def compute(rows):
        _taken(rows << 20).close()  # no tensor, as what oneDNN copies

    foreseen = prediction.foresee(
        compute, rows=96, parts=1, trained=[torch.ones(3)], moments=True, known=[], device=CPU
    )
    assert foreseen.bytes - memory.resident() > 64 << 20


def test_what_there_is_no_room_for_is_not_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(memory, "available", lambda: 0)
    monkeypatch.setattr(memory, "resident", lambda: 1000)
    monkeypatch.setattr(prediction, "most", lambda *_: 1e6)
    prediction.foresee(tried.append, rows=64, parts=1, trained=[torch.ones(3)], moments=True, known=[], device=CPU)
    assert set(tried) == {16}
