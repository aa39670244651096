"""A run that is interrupted and resumed is the run that was not."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from tests.training.tiny import OPTIM, Tiny, batches, held, run

from nextmove.contracts import Optim
from nextmove.host.files import Appended
from nextmove.host.signals import StoppedError
from nextmove.models.model import Card
from nextmove.training import CheckpointError, checkpoint, train
from nextmove.training.config import TrainConfig


def trace(reports):
    return [(r.step, r.loss, r.terms, r.lr, r.grad_norm) for r in reports]


def losses(out):
    """Deterministic parts of train.jsonl."""
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    timed = ("elapsed", "steps_per_second", "data_wait")
    lines = [line for line in lines if line["kind"] in ("step", "validation")]
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 4}, {"bf16": "on"}, {"log_every": 3}, {"accumulate": 2, "bf16": "on"}]
)
def test_interrupted_run_equals_uninterrupted_run_bit_for_bit(tmp_path, settings):
    through, whole = run(tmp_path / "a", steps=12, validation=held(), **settings)
    first, before = run(tmp_path / "b", steps=12, validation=held(), stop=5, **settings)
    assert (first.step, first.finished) == (5, False)
    # Another start: everything must come from the checkpoint.
    second, after = run(tmp_path / "b", Tiny(seed=7), steps=12, validation=held(), resume=True, **settings)
    assert (second.step, second.finished) == (12, True)
    assert trace(whole) == trace(before) + trace(after)
    assert through.validation == second.validation
    assert through.best == second.best
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    one, two = (load_file(r.checkpoint / "state.safetensors") for r in (through, second))
    assert one.keys() == two.keys()
    assert {name.split("/")[0] for name in one} == {"model", "ema", "adamw"}
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(through.ema[name], second.ema[name]) for name in through.ema)


def test_a_killed_run_repeats_what_came_after_its_checkpoint(tmp_path):
    through, _ = run(tmp_path / "a", steps=9, validation=held(), save_every=4)

    def killed(report):
        if report.step == 7:
            raise RuntimeError("power")

    config = TrainConfig(steps=9, save_every=4, threads=1, log_every=1, progress="off", tensorboard=False, bf16="off")
    with pytest.raises(RuntimeError, match="power"):
        train(Tiny(), batches(), out=tmp_path / "b", config=config, optim=OPTIM, validation=held(), on_step=killed)
    with (tmp_path / "b" / "train.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    second, after = run(tmp_path / "b", Tiny(seed=3), steps=9, validation=held(), save_every=4, resume=True)
    assert [r.step for r in after] == [5, 6, 7, 8, 9]
    assert all(torch.equal(through.ema[name], second.ema[name]) for name in through.ema)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert [p.name for p in sorted((tmp_path / "b" / "checkpoints").iterdir())] == [
        p.name for p in sorted((tmp_path / "a" / "checkpoints").iterdir())
    ]


def test_a_perturbed_moment_changes_the_rest_of_the_run(tmp_path):
    whole, _ = run(tmp_path / "a", steps=8)
    run(tmp_path / "b", steps=8, stop=4)
    path = tmp_path / "b" / "checkpoints" / "last-4" / "state.safetensors"
    from safetensors.torch import save_file

    tensors = load_file(path)
    tensors["adamw/exp_avg/last.bias"][0] += 0.01
    save_file(tensors, path)
    facts = json.loads((path.parent / "state.json").read_text())
    del facts["sha256"]  # which knows what was written
    (path.parent / "state.json").write_text(json.dumps(facts))
    resumed, _ = run(tmp_path / "b", steps=8, resume=True)
    assert not torch.equal(whole.ema["last.bias"], resumed.ema["last.bias"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_returns(tmp_path, number):
    def press(report):
        if report.step == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    config = TrainConfig(steps=50, threads=1, progress="off", tensorboard=False)
    result = train(Tiny(), batches(), out=tmp_path, config=config, optim=OPTIM, on_step=press)
    assert (result.step, result.finished, result.checkpoint.name) == (3, False, "last-3")
    assert result.stopped == number
    assert signal.getsignal(number) is before
    again, _ = run(tmp_path, steps=50, resume=True, stop=5)
    assert again.step == 5


def test_a_finished_run_has_nothing_to_resume(tmp_path):
    first, _ = run(tmp_path, steps=4)
    again, reports = run(tmp_path, steps=4, resume=True)
    assert reports == []
    assert (again.step, again.finished, again.loss) == (4, True, first.loss)
    assert torch.equal(first.ema["last.weight"], again.ema["last.weight"])


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(FileExistsError, match=r"last-2.*resume it or choose another folder"):
        run(tmp_path, steps=2)


def test_a_second_signal_stops_at_once(tmp_path):
    def loss(self, batch, *, rng):
        if self.seen == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        return Tiny.loss(self, batch, rng=rng)

    model = type("Pressed", (Tiny,), {"loss": loss})()
    with pytest.raises(StoppedError, match=r"stopped at once at step 3; the last checkpoint is .*last-2") as stop:
        run(tmp_path, model, steps=9, save_every=2)
    assert stop.value.status == 143


def test_where_there_is_nothing_to_resume_a_run_begins_and_says_so(tmp_path, capsys):
    result, _ = run(tmp_path, steps=2, resume=True, progress="lines")
    assert result.step == 2
    printed = capsys.readouterr().out
    assert f"{tmp_path}: there is no checkpoint to resume; beginning anew" in printed.replace("\n", "")
    assert json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])["kind"] == "notice"


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage, capsys):
    through, _ = run(tmp_path / "a", steps=9, validation=held())
    run(tmp_path / "b", steps=9, validation=held(), save_every=2, stop=6)
    assert [p.name for p in checkpoint.found(tmp_path / "b" / "checkpoints", "last")] == ["last-6", "last-4"]
    last = tmp_path / "b" / "checkpoints" / "last-6"
    weights = last / "state.safetensors"
    raw = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(raw[: len(raw) // 2])
    elif damage == "changed":
        weights.write_bytes(raw[:-9] + b"damaged!!")
    elif damage == "gone":
        weights.unlink()
    else:
        (last / "state.json").write_bytes(b"\x80\x00")
    second, after = run(tmp_path / "b", Tiny(seed=3), steps=9, validation=held(), resume=True, progress="lines")
    assert [report.step for report in after] == [5, 6, 7, 8, 9]
    assert "last-6: cannot be read" in (printed := capsys.readouterr().out.replace("\n", ""))
    assert "going on from the checkpoint before it" in printed
    assert all(torch.equal(through.ema[name], second.ema[name]) for name in through.ema)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_where_no_checkpoint_can_be_read_nothing_is_begun_anew(tmp_path):
    run(tmp_path, steps=4, save_every=2)
    for path in (tmp_path / "checkpoints").glob("last-*/state.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="last-2: cannot be read"):
        run(tmp_path, steps=6, resume=True)


def test_a_full_disk_costs_no_step_that_was_done(tmp_path, monkeypatch):
    through, _ = run(tmp_path / "a", steps=9)
    write, lines = Appended.write, itertools.count()

    def full(self, content):
        if self.path.name == "train.jsonl" and next(lines) >= 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        write(self, content)

    monkeypatch.setattr(Appended, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*train\.jsonl") as problem:
        run(tmp_path / "b", steps=9, save_every=2)
    (note,) = problem.value.__notes__
    assert note == f"The last checkpoint is {tmp_path / 'b' / 'checkpoints' / 'last-6'}."
    monkeypatch.undo()
    resumed, after = run(tmp_path / "b", Tiny(seed=3), steps=9, resume=True)
    assert after[0].step == 7
    assert all(torch.equal(through.ema[name], resumed.ema[name]) for name in through.ema)


def test_a_disk_without_room_for_checkpoints_is_named_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("nextmove.training.run.room", lambda path: 4000)
    with pytest.raises(OSError, match="No space left") as problem:
        run(tmp_path, steps=9)
    assert problem.value.__notes__ == ["Checkpoints and model take 0.0 MB, 0.0 MB are free."]
    assert not (tmp_path / "train.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "optim", "seed", "message"),
    [
        (Tiny(width=8), OPTIM, 0, r"model/first.weight: expected shape \(8, 12\), found \(16, 12\)"),
        (torch.nn.Sequential(Tiny()), OPTIM, 0, "missing tensor 'model/0.seen'"),
        (
            Tiny(),
            Optim(lr=1e-3, warmup=3, batch=16),
            0,
            "optim.lr: the checkpoint was written with 0.003, this run has 0.001",
        ),
        (Tiny(), OPTIM, 1, "seed: the checkpoint was written with 0, this run has 1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, model, optim, seed, message):
    run(tmp_path, steps=2)
    if not hasattr(model, "loss"):
        model.loss = model[0].loss
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, model, optim=optim, steps=4, seed=seed, resume=True)


def test_a_checkpoint_of_another_card_is_refused_though_all_shapes_agree(tmp_path):
    model = Tiny()
    model.card = Card("flow-policy", None, {"action": 2, "fps": 10.0})
    run(tmp_path, model, steps=2)
    other = Tiny()
    other.card = Card("flow-policy", None, {"action": 2, "fps": 20.0})
    with pytest.raises(
        CheckpointError, match=r"card.spec.fps: the checkpoint was written with 10.0, this run has 20.0"
    ):
        run(tmp_path, other, steps=4, resume=True)


def test_a_checkpoint_of_other_data_is_refused_and_one_that_names_none_is_not(tmp_path):
    data = {"episodes": 9, "means": {"action": "0.2"}}
    run(tmp_path / "named", data=data, steps=2)
    run(tmp_path / "silent", steps=2)
    message = r"last-2: data.episodes: the checkpoint was written with 9, this run has 5"
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path / "named", data=data | {"episodes": 5}, steps=4, resume=True)
    for out in (tmp_path / "named", tmp_path / "silent"):
        assert run(out, data=data, steps=4, resume=True)[0].step == 4


def test_without_averaging_the_weights_themselves_are_given_back(tmp_path):
    optim = Optim(lr=3e-3, warmup=3, ema=0)
    whole, _ = run(tmp_path / "a", model := Tiny(), optim=optim, steps=6)
    run(tmp_path / "b", optim=optim, steps=6, stop=2)
    resumed, _ = run(tmp_path / "b", optim=optim, steps=6, resume=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole.ema[name])
        assert torch.equal(value, resumed.ema[name])
