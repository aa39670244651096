"""What bf16 is decided by: the processor's own products, once a run, and kept when it is resumed."""

import json

import pytest
import torch
from tests.training.tiny import Tiny, held, run

from nextmove.training import precision
from nextmove.training.precision import FASTER, choose

CPU = torch.device("cpu")


def ratio(monkeypatch, found: float) -> None:
    monkeypatch.setattr(precision, "products", lambda threads: found)


@pytest.mark.parametrize(("asked", "found"), [("on", 0.1), ("off", 9.0)])
def test_what_is_asked_for_is_done(asked, found, monkeypatch):
    ratio(monkeypatch, found)
    assert choose(asked, CPU, kept=asked == "off").bf16 == (asked == "on")


@pytest.mark.parametrize("found", [0.4, 0.99 * FASTER, FASTER, 4.0])
def test_products_decide(found, monkeypatch):
    ratio(monkeypatch, found)
    chosen = choose("auto", CPU)
    assert chosen.bf16 == (found >= FASTER)
    assert f"multiplies {found:.2f} times as fast" in chosen.why
    assert [choose("auto", CPU, kept=kept).bf16 for kept in (True, False)] == [True, False]


def test_nothing_is_said_to_be_faster_where_nothing_is_measured():
    assert not choose("auto", torch.device("meta")).bf16


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
    printed = capsys.readouterr().out
    assert printed.count(f"the loss is computed in {name}: this processor multiplies {found:.2f}") == 2
    assert printed.count(f"the loss is computed in {name}: as at the run's first start") == 1
    lines = [json.loads(line) for line in (tmp_path / "b" / "train.jsonl").read_text().splitlines()]
    starts = [line for line in lines if line["kind"] == "start"]
    assert [line["bf16"] for line in starts] == [kind == torch.bfloat16] * 2
    assert starts[1]["bf16_why"] == "as at the run's first start"
