"""Checkpoints are whole or not there."""

from __future__ import annotations

import itertools
import os
import pathlib
import shutil

import pytest
import safetensors.torch
import torch

from nextmove.host import files
from nextmove.training import checkpoint
from nextmove.training.checkpoint import CheckpointError, DamagedError


class KilledError(BaseException):
    """Stands for kill -9: nothing may catch it."""


def tensors(value):
    return {"w": torch.full((3,), float(value)), "b": torch.tensor(value)}


def extra(folder):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


def write(folder, step):
    return checkpoint.write(folder, "last", step, tensors(step), {"note": step}, extra)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, monkeypatch, after):
    """Killed before or after every single file operation of a write."""
    places = [
        (os, "rename"),
        (os, "replace"),
        (os, "fsync"),
        (shutil, "rmtree"),
        (pathlib.Path, "mkdir"),
        (pathlib.Path, "write_bytes"),
    ]
    places.append((safetensors.torch, "save_file"))
    for stage in itertools.count():
        folder = tmp_path / str(stage)
        write(folder, 10)
        calls = itertools.count()

        def deadly(function, calls=calls, stage=stage):
            def wrapped(*args, **kwargs):
                at = next(calls)
                if at == stage and not after:
                    raise KilledError
                result = function(*args, **kwargs)
                if at == stage:
                    raise KilledError
                return result

            return wrapped

        killed = False
        with monkeypatch.context() as patch:
            for owner, name in places:
                patch.setattr(owner, name, deadly(getattr(owner, name)))
            patch.setattr(files, "_remove", lambda path: None)  # nobody cleans up behind a kill
            try:
                write(folder, 20)
            except KilledError:
                killed = True
        newest = checkpoint.newest(folder, "last")
        assert newest.name in ("last-10", "last-20")
        found, facts = checkpoint.read(newest)
        step = facts["step"]
        assert newest.name == f"last-{step}"
        assert facts["note"] == step
        assert torch.equal(found["w"], tensors(step)["w"])
        assert (newest / "model" / "config.json").is_file()
        checkpoint.tidy(folder)
        write(folder, 20)
        checkpoint.remove(folder, "last", lambda number: number < 20)
        assert [p.name for p in folder.iterdir()] == ["last-20"]
        if not killed:
            assert stage > 12
            break


def test_half_written_tensors_are_never_named_a_checkpoint(tmp_path, monkeypatch):
    write(tmp_path, 10)

    def half(values, path, **_):
        path.write_bytes(b"\x10\x00")
        raise KilledError

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(KilledError):
        write(tmp_path, 20)
    assert checkpoint.newest(tmp_path, "last").name == "last-10"


def test_as_many_stay_as_are_wanted(tmp_path):
    for step in (9, 10, 100):
        checkpoint.write(tmp_path, "last", step, tensors(step), {}, keep=2)
    assert [path.name for path in checkpoint.found(tmp_path, "last")] == ["last-100", "last-10"]


def test_on_a_full_disk_all_but_the_newest_make_room(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, "last", step, tensors(step), {}, keep=3)
    save, asked = safetensors.torch.save_file, []

    def tight(values, path, **options):
        asked.append(len(checkpoint.found(tmp_path, "last")))
        if asked[-1] > room:
            pathlib.Path(path).write_bytes(b"half of it")
            raise safetensors.SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
        save(values, path, **options)

    monkeypatch.setattr(safetensors.torch, "save_file", tight)
    room = 1
    checkpoint.write(tmp_path, "last", 4, tensors(4), {}, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-3", "last-4"]
    room = 0
    with pytest.raises(OSError, match=r"No space left on device: .*last-5/state\.safetensors"):
        checkpoint.write(tmp_path, "last", 5, tensors(5), {}, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-4"]
    assert asked == [3, 1, 2, 1]


def test_changed_weights_are_found_damaged(tmp_path):
    path = write(tmp_path, 10) / "state.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="last-10: cannot be read"):
        checkpoint.read(path.parent)


def test_a_complete_one_is_not_written_again_and_older_ones_go(tmp_path):
    write(tmp_path, 9)
    write(tmp_path, 10)
    checkpoint.write(tmp_path, "best", 5, tensors(5), {})
    checkpoint.write(tmp_path, "last", 10, tensors(11), {"note": 11})
    assert checkpoint.read(tmp_path / "last-10")[1]["note"] == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-5", "last-10"]


def test_tied_weights_and_views_are_written(tmp_path):
    w = torch.arange(6.0).view(2, 3)
    path = checkpoint.write(tmp_path, "last", 1, {"a": w, "b": w, "c": w.T}, {})
    found, _ = checkpoint.read(path)
    assert torch.equal(found["a"], w)
    assert torch.equal(found["b"], w)
    assert torch.equal(found["c"], w.T)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_broken_file_is_named(tmp_path, name, content):
    path = write(tmp_path, 10)
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="last-10: cannot be read"):
        checkpoint.read(path)


def test_an_unknown_format_is_refused(tmp_path):
    path = write(tmp_path, 10)
    (path / "state.json").write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="format: expected 1, found 99"):
        checkpoint.read(path)


def test_the_first_difference_is_named(tmp_path):
    a, b = torch.zeros(2), torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"missing tensor 'net.weight', did you mean 'net.weights'\?"):
        checkpoint.check_tensors(tmp_path, {"net.weight": a}, {"net.weights": a})
    with pytest.raises(CheckpointError, match=r"w: expected shape \(2,\), found \(3,\)"):
        checkpoint.check_tensors(tmp_path, {"w": a}, {"w": b})
    with pytest.raises(CheckpointError, match="tensor 'v' belongs to no part"):
        checkpoint.check_tensors(tmp_path, {"w": a}, {"w": a, "v": b})
    with pytest.raises(CheckpointError, match=r"card.x.1: |card.x: "):
        checkpoint.check_facts(tmp_path, {"x": [1, 2]}, {"x": [1, 3]}, "card")
    with pytest.raises(CheckpointError, match=r"card.y: the checkpoint was written with None, this run has 2"):
        checkpoint.check_facts(tmp_path, {"x": 1, "y": 2}, {"x": 1}, "card")
