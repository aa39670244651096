"""What bf16 is decided by: steps of the model, tried once a run, and kept when it is resumed."""

import json
from contextlib import contextmanager

import pytest
import torch
from tests.training.tiny import Tiny, batches, held, run

from nextmove.training import precision
from nextmove.training.precision import FASTER, choose

CPU = torch.device("cpu")


def ratio(monkeypatch, found: float, model: float | None = None) -> None:
    """What products are measured to gain, and steps of the model, which are still computed in both."""

    def steps(gradients):
        for mixed in (False, True, False, True):
            gradients(mixed)
        return found if model is None else model

    monkeypatch.setattr(precision, "products", lambda threads: found)
    monkeypatch.setattr(precision, "steps", steps)


def trial(tried=None, fails=()):
    """A step that notes in which precisions it is tried."""

    @contextmanager
    def begun():
        def gradients(mixed):
            if mixed in fails:
                raise RuntimeError("not implemented for 'BFloat16'")
            if tried is not None:
                tried.append(mixed)

        yield gradients

    return begun


@pytest.mark.parametrize(("asked", "found"), [("on", 0.1), ("off", 9.0)])
def test_what_is_asked_for_is_done(asked, found, monkeypatch):
    ratio(monkeypatch, found)
    assert choose(asked, CPU, trial(tried := []), kept=asked == "off").bf16 == (asked == "on")
    assert not tried


@pytest.mark.parametrize("found", [0.4, 0.99 * FASTER, FASTER, 4.0])
def test_steps_of_the_model_decide(found, monkeypatch):
    ratio(monkeypatch, 2.0, model=found)
    chosen = choose("auto", CPU, trial())
    assert chosen.bf16 == (found >= FASTER)
    assert f"this model makes {found:.2f} times as many steps" in chosen.why
    assert [choose("auto", CPU, trial(), kept=kept).bf16 for kept in (True, False)] == [True, False]


def test_where_products_are_slower_nothing_is_tried(monkeypatch):
    ratio(monkeypatch, 0.99 * FASTER, model=9.0)
    chosen = choose("auto", CPU, trial(tried := []))
    assert not chosen.bf16
    assert f"multiplies {0.99 * FASTER:.2f} times as fast" in chosen.why
    assert not tried


def test_what_bf16_cannot_compute_is_computed_in_float32(monkeypatch):
    ratio(monkeypatch, 2.0)
    chosen = choose("auto", CPU, trial(fails=[True]))
    assert (chosen.bf16, chosen.why) == (False, "it cannot be computed in bf16 (not implemented for 'BFloat16')")
    # What float32 cannot compute either is wrong with the model.
    with pytest.raises(RuntimeError, match="not implemented"):
        choose("auto", CPU, trial(fails=[False, True]))


@pytest.mark.parametrize(("wide", "narrow", "rounds"), [(0.03, 0.02, precision.ROUNDS), (0.6, 0.5, 2), (30.0, 20.0, 1)])
def test_steps_are_compared_by_their_best_times_and_few_where_they_are_slow(wide, narrow, rounds, monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])

    def gradients(mixed):
        calls.append(mixed)
        # The first of each warms up, where there is a second.
        now[0] += (narrow if mixed else wide) + (0.01 if len(calls) <= 2 < 2 * rounds else 0)

    assert precision.steps(gradients) == pytest.approx(wide / narrow)
    assert calls == [False, True] * rounds


@pytest.mark.parametrize(("found", "like"), [(3.0, "on"), (0.9, "off")])
def test_trying_changes_nothing(found, like, tmp_path, monkeypatch):
    """Weights, averages, a buffer that counts, dropout and losses are those of a run that was told."""
    ratio(monkeypatch, 2.0, model=found)
    told, expected = run(tmp_path / "told", steps=4, accumulate=2, bf16=like)
    taken = []

    def stream(start, rank, world):
        for batch in batches()(start, rank, world):
            taken.append(len(taken))
            yield batch

    tried, reports = run(tmp_path / "tried", steps=4, accumulate=2, bf16="auto", stream=stream)
    assert [r.loss for r in reports] == [r.loss for r in expected]
    assert tried.ema.keys() == told.ema.keys()
    assert all(torch.equal(tried.ema[name], told.ema[name]) for name in told.ema)
    assert len(taken) == 4


def test_nothing_is_said_to_be_faster_where_nothing_is_measured():
    assert not choose("auto", torch.device("meta"), trial()).bf16


def test_the_measurement_draws_nothing_and_takes_the_best_of_turns(monkeypatch):
    kinds = []

    def seconds(a, b):
        kinds.append(a.dtype)
        first = len(kinds) % (2 * (1 + precision.REPEATS)) in (1, 2)
        # The first of each size warms up; every other time is disturbed.
        return 100.0 if first or len(kinds) % 4 == 0 else {torch.float32: 6.0, torch.bfloat16: 2.0}[a.dtype]

    monkeypatch.setattr(precision, "_seconds", seconds)
    state = torch.get_rng_state()
    assert precision.products.__wrapped__(1) == 3.0
    assert torch.get_rng_state().equal(state)
    assert kinds[:2] == [torch.float32, torch.bfloat16]
    assert len(kinds) == 2 * len(precision.WIDTHS) * (1 + precision.REPEATS)


def test_a_processor_that_takes_a_detour_for_bf16_multiplies_one_size(monkeypatch):
    widths = []

    def seconds(a, b):
        widths.append(len(b))
        return 1.0 if a.dtype == torch.float32 else 3.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert precision.products.__wrapped__(1) == pytest.approx(1 / 3)
    assert widths == [precision.WIDTHS[0]] * 2 * (1 + precision.REPEATS)


def test_this_processor_is_measured():
    assert 0 < precision.products(torch.get_num_threads()) < 1000


class Spy(Tiny):
    """Remembers what its loss was computed in."""

    def forward(self, *inputs):
        out = super().forward(*inputs)
        self.kinds = {*getattr(self, "kinds", ()), out.dtype}
        return out


@pytest.mark.parametrize(("found", "kind"), [(4.0, torch.bfloat16), (1.0, torch.float32)])
def test_a_resumed_run_goes_on_as_it_began(found, kind, tmp_path, monkeypatch, capsys):
    ratio(monkeypatch, found)
    options = {"steps": 8, "bf16": "auto", "validation": held(), "progress": "lines"}
    through, _ = run(tmp_path / "a", **options)
    run(tmp_path / "b", stop=3, **options)
    ratio(monkeypatch, 4.0 if found == 1.0 else 1.0)  # another processor
    spy = Spy(seed=7)
    second, _ = run(tmp_path / "b", spy, resume=True, **options)
    assert spy.kinds == {kind}
    assert all(torch.equal(through.ema[name], second.ema[name]) for name in through.ema)
    name = "bf16" if kind == torch.bfloat16 else "float32"
    reason = "this model makes" if found >= FASTER else "this processor multiplies"
    printed = capsys.readouterr().out
    assert printed.count(f"the loss is computed in {name}: {reason} {found:.2f}") == 2
    assert printed.count(f"the loss is computed in {name}: as at the run's first start") == 1
    lines = [json.loads(line) for line in (tmp_path / "b" / "train.jsonl").read_text().splitlines()]
    starts = [line for line in lines if line["kind"] == "start"]
    assert [line["bf16"] for line in starts] == [kind == torch.bfloat16] * 2
    assert starts[1]["bf16_why"] == "as at the run's first start"
