"""The loop: draws, accumulation, checks, logs, validation, budgets."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training.tiny import OPTIM, Tiny, batches, held, run
from torch import nn

from nextmove.contracts import Optim, seeded, total
from nextmove.training import DivergedError, TrainConfig, rate, train
from nextmove.training.ema import decay
from nextmove.training.optim import undecayed


def lines(out, kind):
    found = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_the_loop_is_the_plain_loop(tmp_path):
    """Against twelve lines of torch: AdamW with two groups, clip_grad_norm_, averages, dropout off."""
    optim = Optim(lr=3e-3, warmup=3, clip=0.5, weight_decay=0.1)
    result, reports = run(tmp_path, model := Tiny(dropout=0), optim=optim, steps=10)
    plain = Tiny(dropout=0)
    spared = undecayed(plain)
    sets = [[p for n, p in plain.named_parameters() if (n in spared) == flag] for flag in (False, True)]
    groups = [{"params": sets[0], "weight_decay": 0.1}, {"params": sets[1], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0, betas=optim.betas, eps=optim.eps)
    average = [p.detach().clone() for p in plain.parameters()]
    stream = batches()(0, 0, 1)
    for step in range(10):
        loss = total(plain.loss(next(stream), rng=seeded(0, step, 2)))
        adamw.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        for group in adamw.param_groups:
            group["lr"] = 3e-3 * rate(step, step / 10, 3)
        adamw.step()
        d = decay(step + 1)
        average = [d * a + (1 - d) * p.detach() for a, p in zip(average, plain.parameters(), strict=True)]
        assert reports[step].loss == pytest.approx(loss.item(), rel=1e-5)
        assert reports[step].grad_norm == pytest.approx(norm.item(), rel=1e-4)
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    names = [name for name, _ in plain.named_parameters()]
    for name, value in zip(names, average, strict=True):
        torch.testing.assert_close(result.ema[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_accumulation_changes_memory_not_results(tmp_path, parts):
    whole, one = run(tmp_path / "a", Tiny(dropout=0), steps=8)
    cut, two = run(tmp_path / "b", Tiny(dropout=0), steps=8, accumulate=parts)
    assert [r.loss for r in one] == pytest.approx([r.loss for r in two], rel=1e-5)
    torch.testing.assert_close(whole.ema["first.weight"], cut.ema["first.weight"], rtol=1e-4, atol=1e-5)


def test_accumulation_must_divide_the_batch(tmp_path):
    with pytest.raises(ValueError, match="accumulate: expected a divisor of the 16 rows of a batch, found 3"):
        run(tmp_path, steps=2, accumulate=3)


def test_dropout_is_on_and_the_seed_decides(tmp_path):
    _, one = run(tmp_path / "a", steps=4)
    _, two = run(tmp_path / "b", steps=4)
    _, other = run(tmp_path / "c", steps=4, seed=1)
    _, off = run(tmp_path / "d", Tiny(dropout=0), steps=4)
    assert [r.loss for r in one] == [r.loss for r in two]
    assert one[0].loss != other[0].loss
    assert one[0].loss != off[0].loss


def test_the_caller_keeps_its_random_state_threads_and_mode(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    run(tmp_path, model := Tiny().eval(), steps=2, threads=threads + 1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not model.training


def test_training_lowers_the_loss(tmp_path):
    result, reports = run(tmp_path, Tiny(dropout=0), optim=Optim(lr=2e-2, warmup=5), steps=150, log_every=50)
    assert result.loss < 0.7 * sum(r.loss for r in reports[:10]) / 10


@pytest.mark.parametrize(("poison", "step"), [(0, 0), (5, 5)])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, poison, step):
    saved = "none" if poison == 0 else ".*last-4"
    with pytest.raises(DivergedError, match=f"loss term 'flow' is .* at step {step}; last good checkpoint: {saved}"):
        run(tmp_path, steps=10, save_every=4, stream=batches(poison=poison))
    assert lines(tmp_path, "diverged")[0]["step"] == step
    if poison:
        again, _ = run(tmp_path, steps=10, save_every=4, resume=True)
        assert again.finished
        assert all(value.isfinite().all() for value in again.ema.values())


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_move(tmp_path):
    class Root(Tiny):
        def loss(self, batch, *, rng):
            terms = super().loss(batch, rng=rng)
            return {**terms, "root": (self.last.bias * 0).abs().sqrt().sum()}

    model = Root()
    before = model.first.weight.detach().clone()
    with pytest.raises(DivergedError, match=r"gradient of last\.bias is not finite at step 0, loss terms flow"):
        run(tmp_path, model, steps=3)
    assert torch.equal(model.first.weight, before)


def test_a_loss_term_with_a_shape_is_named(tmp_path):
    class Wide(Tiny):
        def loss(self, batch, *, rng):
            return {"flow": self.last.bias}

    with pytest.raises(ValueError, match=r"loss term 'flow': expected shape \(\), found \(3,\)"):
        run(tmp_path, Wide(), steps=3)


def test_data_that_end_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="found the end at step 2"):
        run(tmp_path, steps=5, stream=lambda start, rank, world: [next(batches()(0, 0, 1))] * 2)


def test_a_model_without_a_loss_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected a method loss\(batch, \*, rng\), found none on Linear"):
        run(tmp_path, nn.Linear(1, 1), steps=1)


def test_the_log_says_what_happened(tmp_path):
    result, reports = run(tmp_path, steps=7, log_every=3, validation=held(), validate_every=4, save_every=5)
    (start,) = lines(tmp_path, "start")
    assert (start["step"], start["optim"]["lr"], start["config"]["steps"], start["world"]) == (0, 3e-3, 7, 1)
    assert start["parameters"] == sum(p.numel() for p in Tiny().parameters())
    steps = lines(tmp_path, "step")
    assert [line["step"] for line in steps] == [3, 6, 7]
    for line, part in zip(steps, (reports[:3], reports[3:6], reports[6:]), strict=True):
        assert line["loss"] == pytest.approx(sum(r.loss for r in part) / len(part))
        assert line["terms"].keys() == {"flow", "size"}
        assert sum(line["terms"].values()) == pytest.approx(line["loss"])
        assert line["lr"] == pytest.approx(sum(r.lr for r in part) / len(part))
        assert line["steps_per_second"] > 0
        assert 0 <= line["data_wait"] <= 1
    assert [line["step"] for line in lines(tmp_path, "validation")] == [4, 7]
    assert [line["step"] for line in lines(tmp_path, "checkpoint")] == [5, 7]
    assert lines(tmp_path, "end")[0]["finished"]
    assert result.loss == steps[-1]["loss"]
    assert result.validation == lines(tmp_path, "validation")[-1]["loss"]


def test_tensorboard_events_and_printed_lines(tmp_path, capsys):
    run(tmp_path, steps=2, validation=held(), tensorboard=True, progress="lines")
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = [(line["step"], pytest.approx(line["loss"])) for line in lines(tmp_path, "step")]
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == logged
    assert "validation/term/flow" in found.Tags()["scalars"]
    printed = capsys.readouterr().out
    assert "step 1 " in printed
    assert "ETA" in printed
    assert "step 2: validation loss" in printed


def test_without_tensorboard_it_trains_and_says_once_that_there_are_no_events(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    run(tmp_path, steps=3, validation=held(), tensorboard=True, progress="lines")
    assert lines(tmp_path, "end")[0]["finished"]
    assert capsys.readouterr().out.count("tensorboard is not installed") == 1
    assert [line["step"] for line in lines(tmp_path, "notice") if "tensorboard" in line["message"]] == [0]
    assert not (tmp_path / "tensorboard").exists()
    run(tmp_path / "unasked", steps=1)
    assert not lines(tmp_path / "unasked", "notice")


def test_nothing_is_reported_of_steps_that_were_not_taken(tmp_path, capsys):
    run(tmp_path, steps=2)
    capsys.readouterr()
    run(tmp_path, steps=2, resume=True, progress="lines")
    assert capsys.readouterr().out.split() == ["100%", "step", "2", "ETA", "0:00"]


@pytest.mark.parametrize(
    ("seconds", "cost", "budget", "shortest", "longest"),
    [(0.5, 0.1, {"steps": 300}, 20, 21), (0.5, 0.1, {"minutes": 2}, 20, 21), (5, 4, {"steps": 300}, 28, 90)],
    ids=["steps", "minutes", "dear"],
)
def test_a_kill_costs_half_a_minute_unless_checkpoints_are_dear(
    tmp_path, ticking, seconds, cost, budget, shortest, longest
):
    now, _ = ticking
    saved = [now[0]]

    def stream(start, rank, world):
        for batch in batches()(start, rank, world):
            now[0] += seconds
            yield batch

    def save_model(model, folder):
        saved.append(now[0])
        now[0] += cost

    run(tmp_path, stream=stream, save_model=save_model, log_every=1000, **budget)
    assert saved[1] - saved[0] < 30
    between = np.diff(saved[1:-1])
    assert len(between) > 2
    assert shortest < min(between)
    assert max(between) < longest


def test_validation_sees_averages_in_evaluation_mode_with_fixed_noise(tmp_path):
    validation = held()
    result, _ = run(tmp_path, model := Tiny(), steps=6, validation=validation)
    judge = Tiny().eval()

    def loss(weights):
        judge.load_state_dict(weights)
        sums = 0.0
        with torch.no_grad():
            for index, batch in enumerate(validation):
                sums += float(total(judge.loss(batch, rng=seeded(0, index, 3)))) * len(batch["x"])
        return sums / sum(len(batch["x"]) for batch in validation)

    assert result.validation == pytest.approx(loss(result.ema), rel=1e-6)
    assert loss(model.state_dict()) != pytest.approx(result.validation, rel=1e-3)


def test_two_validations_of_the_same_weights_are_equal(tmp_path):
    run(tmp_path, optim=Optim(lr=0.0), steps=6, validation=held(), validate_every=1)
    found = [line["loss"] for line in lines(tmp_path, "validation")]
    assert len(found) == 6
    assert len(set(found)) == 1
    assert [line["best"] for line in lines(tmp_path, "validation")] == [True] + [False] * 5


def test_validation_leaves_training_alone(tmp_path):
    _, one = run(tmp_path / "a", steps=6)
    _, two = run(tmp_path / "b", steps=6, validation=held(), validate_every=1, save_every=1)
    assert [r.loss for r in one] == [r.loss for r in two]


def test_best_and_last_are_kept_with_a_usable_model(tmp_path):
    from safetensors.torch import load_file, save_file

    def save_model(model, folder):
        folder.mkdir()
        save_file(model.state_dict(), folder / "model.safetensors")

    # What is learnt from these data makes the loss on their opposite worse.
    opposite = [{**batch, "x": -batch["x"]} for batch in held()]
    settings = {"steps": 5, "validation": opposite, "validate_every": 1, "save_model": save_model}
    result, _ = run(tmp_path, Tiny(dropout=0), optim=Optim(lr=0.03, warmup=0, ema=0), **settings)
    losses = [line["loss"] for line in lines(tmp_path, "validation")]
    assert result.best.loss == min(losses)
    assert result.best.step == 1 + losses.index(min(losses)) < 5
    folders = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert folders == [f"best-{result.best.step}", "last-5"]
    saved = load_file(result.checkpoint / "model" / "model.safetensors")
    assert torch.equal(saved["last.weight"], result.ema["last.weight"])
    best = load_file(tmp_path / "checkpoints" / folders[0] / "model" / "model.safetensors")
    assert not torch.equal(best["last.weight"], saved["last.weight"])


@pytest.fixture
def ticking(monkeypatch):
    """A clock of our own: every batch takes 10 ms to come, the first a second more; nothing else takes time."""
    now = [50.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(f"nextmove.training.run.time.{name}", lambda: now[0])

    def stream(start, rank, world):
        now[0] += 1
        for batch in batches()(start, rank, world):
            now[0] += 0.01
            yield batch

    return now, stream


def test_minutes_end_in_time_at_rate_zero(tmp_path, ticking):
    now, stream = ticking

    def save_model(model, folder):
        now[0] += 0.04  # cheap enough for all ten

    settings = {"validation": held(), "save_model": save_model, "stream": stream, "log_every": 10}
    result, reports = run(tmp_path, minutes=5 / 60, **settings)
    assert result.finished
    assert now[0] == pytest.approx(50 + result.elapsed)
    assert 5 - 0.3 < result.elapsed < 5 + 1e-6
    assert max(r.lr for r in reports) > 0.8 * OPTIM.lr
    assert reports[-1].lr < 1e-3 * OPTIM.lr
    assert len(lines(tmp_path, "validation")) in (9, 10, 11)
    assert lines(tmp_path, "step")[-1]["steps_per_second"] == pytest.approx(100)
    assert lines(tmp_path, "step")[-1]["data_wait"] == pytest.approx(1)


def test_busy_minutes_reserve_none_of_the_time_of_other_programs(tmp_path, ticking, monkeypatch):
    now, stream = ticking
    stolen = [0.0]
    monkeypatch.setattr("nextmove.training.run.time.thread_time", lambda: now[0] - stolen[0])

    def save_model(model, folder):
        now[0] += 40.1
        stolen[0] += 40

    settings = {"validation": held(), "save_model": save_model, "stream": stream, "clock": "busy"}
    result, reports = run(tmp_path, minutes=5 / 60, **settings)
    assert 5 - 0.3 < result.elapsed < 5 + 1e-6
    assert reports[-1].lr < 1e-3 * OPTIM.lr


def test_minutes_go_on_where_they_were(tmp_path, ticking):
    now, stream = ticking
    first, before = run(tmp_path, minutes=5 / 60, stop=150, stream=stream)
    now[0] += 1e6
    second, after = run(tmp_path, Tiny(seed=4), minutes=5 / 60, resume=True, stream=stream)
    assert (first.finished, second.finished) == (False, True)
    assert after[0].step == 151
    assert after[0].lr < before[-1].lr
    assert second.elapsed == pytest.approx(5, abs=0.03)
    assert after[-1].lr < 1e-3 * OPTIM.lr


def test_bf16_reaches_the_loss(tmp_path):
    seen = []

    class Spy(Tiny):
        def forward(self, *inputs):
            out = super().forward(*inputs)
            seen.append(out.dtype)
            return out

    run(tmp_path / "a", Spy(), steps=1, bf16="on", validation=held())
    assert set(seen) == {torch.bfloat16}
    seen.clear()
    run(tmp_path / "b", Spy(), steps=1)
    assert set(seen) == {torch.float32}


def test_numpy_and_nested_batches(tmp_path):
    def stream(start, rank, world):
        for batch in batches()(start, rank, world):
            inner = {name: batch[name].numpy() for name in ("condition", "label")}
            yield {"x": batch["x"].numpy(), "inner": inner, "task": batch["task"], "fps": 10}

    class Nested(Tiny):
        def loss(self, batch, *, rng):
            assert len(batch["task"]) == len(batch["x"])
            assert batch["fps"] == 10
            return super().loss({"x": batch["x"], **batch["inner"]}, rng=rng)

    _, plain = run(tmp_path / "a", steps=3, accumulate=2)
    config = TrainConfig(steps=3, accumulate=2, threads=1, progress="off", tensorboard=False, bf16="off")
    result = train(Nested(), stream, out=tmp_path / "b", config=config, optim=OPTIM)
    assert result.loss == pytest.approx(sum(r.loss for r in plain) / 3)
