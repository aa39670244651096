"""Weight decay groups, clipping, AdamW, averages and the rate over a run, against closed forms."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from nextmove.contracts import ContextSpec, Optim
from nextmove.nn import Gpt, Transformer
from nextmove.training import Ema, TrainConfig, rate
from nextmove.training.ema import decay
from nextmove.training.optim import Update, trainable, undecayed
from nextmove.training.schedule import BudgetClock


@pytest.mark.parametrize(
    ("step", "expected"), [(1, 0.0), (2, 0.40540), (10, 0.82217), (100, 0.96838), (1000, 0.99438), (10**4, 0.999)]
)
def test_decay_of_the_average_follows_the_table(step, expected):
    assert decay(step) == pytest.approx(expected, abs=1e-5)


def test_decay_is_capped():
    assert decay(10**9, 0.9999) == 0.9999
    assert decay(10**9, 0.5) == 0.5


def test_average_is_the_weighted_sum_of_the_past():
    model = nn.Linear(2, 1)
    ema = Ema(model, 0.9999)
    history = []
    for step in range(1, 8):
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, 2, generator=torch.Generator().manual_seed(step)))
        history.append(model.weight.detach().clone())
        ema.update(step)
    expected = torch.zeros(1, 2, dtype=torch.float64)
    for step, weight in enumerate(history, 1):
        d = 1 - step**-0.75
        expected = d * expected + (1 - d) * weight.double()
    torch.testing.assert_close(ema.model.weight.double(), expected, rtol=1e-6, atol=1e-7)
    assert not ema.model.weight.requires_grad
    assert model.weight.requires_grad


def test_buffers_and_frozen_parameters_are_copied_not_averaged():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    ema = Ema(model, 0.9999)
    model(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)) + 3)
    with torch.no_grad():
        model[0].bias.fill_(4.0)
    ema.update(100)
    ema.refresh()
    assert torch.equal(ema.model[1].running_mean, model[1].running_mean)
    assert int(ema.model[1].num_batches_tracked) == 1
    assert torch.equal(ema.model[0].bias, model[0].bias)


def test_no_decay_on_vectors_embeddings_and_norms():
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(4, 3),
            "linear": nn.Linear(3, 3),
            "conv": nn.Conv1d(3, 3, 3),
            "norm": nn.GroupNorm(1, 3),
            "plane": nn.LayerNorm((2, 3)),
            "head": nn.Linear(3, 4, bias=False),
        }
    )
    decayed = {name for name, _ in model.named_parameters()} - undecayed(model)
    assert decayed == {"linear.weight", "conv.weight", "head.weight"}
    update = Update(trainable(model), Optim(weight_decay=0.1), undecayed=undecayed(model))
    groups = {g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in update.adamw.param_groups}
    assert groups == {0.1: 9 + 27 + 12, 0.0: 12 + 3 + 3 + 6 + 12}


def test_no_decay_on_tables_of_positions():
    spec = ContextSpec(vector=3, tokens=2, token=4)
    nets = (
        Transformer(width=8, layers=1, heads=2).build(shape=(4, 2), out=2, times=1, context=spec),
        Gpt(width=8, layers=1, heads=2).build_tokens(length=4, classes=5, context=spec),
    )
    for net in nets:
        assert {"position", "context.position"} <= undecayed(net) < {name for name, _ in net.named_parameters()}


def test_a_step_says_that_weights_have_moved():
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    versions = [p._version for p in layer.parameters()]
    update = Update(trainable(layer), Optim(), undecayed=set())
    update.apply(1.0, float(update.norm()))
    assert all(p._version > before for p, before in zip(layer.parameters(), versions, strict=True))


def test_a_table_tied_to_the_output_is_an_embedding_whatever_its_name():
    model = nn.ModuleDict({"a_head": nn.Linear(3, 4, bias=False), "embed": nn.Embedding(4, 3)})
    model["embed"].weight = model["a_head"].weight
    assert undecayed(model) == {"a_head.weight"}
    assert list(trainable(model)) == ["a_head.weight"]


def test_one_step_is_adamw_by_hand_with_clipping():
    """Loshchilov & Hutter 2019, Algorithm 2, after scaling the gradient to the norm allowed."""
    optim = Optim(lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.5, clip=1.0)
    layer = nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.bias.fill_(3.0)
    update = Update(trainable(layer), optim, undecayed=undecayed(layer))
    weight, bias = torch.tensor([1.0, -2.0]).double(), 3.0
    m, v = torch.zeros(3).double(), torch.zeros(3).double()
    for step, gradient in enumerate([torch.tensor([3.0, 4.0, 12.0]), torch.tensor([0.1, 0.2, 0.2])], 1):
        g = gradient.double()
        layer.weight.grad, layer.bias.grad = g[:2].view(1, 2).clone(), g[2:].clone()
        norm = float(update.norm())
        assert norm == pytest.approx(math.sqrt(float(g.square().sum())), rel=1e-6)
        assert update.apply(0.5, norm) == 0.05
        g = g * min(1.0, 1.0 / (norm + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g.square()
        move = 0.05 * (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
        weight = weight * (1 - 0.05 * 0.5) - move[:2]
        bias = bias - float(move[2])
        torch.testing.assert_close(layer.weight.detach()[0], weight, rtol=1e-9, atol=1e-12)
        assert layer.bias.item() == pytest.approx(bias, rel=1e-9)


def test_clip_zero_leaves_gradients_alone():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[30.0, 40.0]])
    update = Update(trainable(layer), Optim(clip=0), undecayed=set())
    update.apply(1.0, float(update.norm()))
    assert layer.weight.grad.tolist() == [[30.0, 40.0]]


def test_optimiser_state_goes_out_and_in():
    def stepped(model, update, count):
        for i in range(count):
            update.zero()
            model(torch.full((2, 2), 1.0 + i)).square().sum().backward()
            update.apply(1.0, float(update.norm()))

    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    first = Update(trainable(one), Optim(), undecayed=set())
    stepped(one, first, 3)
    second = Update(trainable(two), Optim(), undecayed=set())
    two.load_state_dict(one.state_dict())
    second.restore({name: value.clone() for name, value in first.state().items()})
    stepped(one, first, 3)
    stepped(two, second, 3)
    assert torch.equal(one.weight, two.weight)
    assert int(second.state()["step/weight"]) == 6


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="expected parameters to train, found none"):
        Update({}, Optim(), undecayed=set())


def test_rate_is_the_closed_form():
    for step in range(1000):
        progress = step / 1000
        expected = min(1.0, max((step + 1) / 20, progress / 0.1)) * math.cos(math.pi * progress / 2) ** 2
        assert rate(step, progress, 20) == pytest.approx(expected, abs=1e-12)
    assert rate(0, 0.0, 20) == pytest.approx(1 / 20)
    assert rate(19, 0.0, 20) == 1.0
    assert rate(0, 0.0, 0) == 1.0
    assert rate(10**6, 1.0, 20) == 0.0
    assert rate(10**6, 1.7, 20) == 0.0


def test_a_short_run_warms_up_for_a_tenth_of_it():
    rates = [rate(step, step / 50, 200) for step in range(50)]
    assert max(rates) > 0.95
    assert rates.index(max(rates)) == 5


def test_clock_of_steps_is_a_function_of_the_step():
    clock = BudgetClock(TrainConfig(steps=40))
    assert [clock.progress(s) for s in (0, 10, 40)] == [0, 0.25, 1]
    due = [s for s in range(1, 41) if clock.validation_due(s, clock.progress(s))]
    assert due == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    for begun in range(40):
        resumed = BudgetClock(TrainConfig(steps=40))
        resumed.restore(begun, 5.0)
        assert [s for s in range(begun + 1, 41) if resumed.validation_due(s, resumed.progress(s))] == [
            s for s in due if s > begun
        ]
    every = BudgetClock(TrainConfig(steps=40, validate_every=15, save_every=7))
    assert [s for s in range(1, 41) if every.validation_due(s, 0)] == [15, 30]
    assert [s for s in range(1, 41) if every.save_due(s)] == [7, 14, 21, 28, 35]


def test_clock_of_minutes_keeps_time_for_the_end(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = BudgetClock(TrainConfig(minutes=1))
    assert clock.progress(0) == 0
    now += 10
    clock.stepped(10.0)
    assert clock.progress(1) == pytest.approx(10 / 50)
    clock.spent("save", 5.0)
    clock.spent("validation", 5.0)
    assert clock.progress(1) == pytest.approx(10 / 40)
    now += 30
    assert clock.progress(2) == pytest.approx(1.0)
    later = BudgetClock(TrainConfig(minutes=1))
    later.restore(5, 45.0)
    now += 3
    assert later.elapsed == 48
    assert later.progress(5) == pytest.approx(48 / 60)
    assert later.left(5) == 12


def test_validations_take_a_tenth_of_the_minutes_at_most(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock, found = BudgetClock(TrainConfig(minutes=10)), []
    while now < 1540:
        now += 1
        if clock.validation_due(1, clock.elapsed / 580):
            found.append(clock.elapsed)
            clock.spent("validation", 20.0)
            now += 20
    # The first tells what they take; the second waits until 20 s are a tenth, the third until 40 s are.
    assert found == [58, 200, 400]


def test_busy_minutes_leave_out_what_other_programs_take(monkeypatch):
    wall, busy = 1000.0, 7.0
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "thread_time", lambda: busy)
    clock = BudgetClock(TrainConfig(minutes=1, clock="busy"))
    wall += 30
    busy += 12
    assert clock.elapsed == 12
    assert clock.progress(1) == pytest.approx(12 / 60)
    with pytest.raises(ValueError, match="clock: expected wall or busy, found 'sun'"):
        TrainConfig(minutes=1, clock="sun")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of steps and minutes above zero, found steps=0 and minutes=0.0"),
        ({"steps": 0}, "exactly one of steps and minutes"),
        ({"minutes": 0.0}, "exactly one of steps and minutes"),
        ({"steps": 5, "minutes": 1.0}, "found steps=5 and minutes=1.0"),
        ({"steps": -5}, "steps: expected no negative number, found -5"),
        ({"steps": 5, "accumulate": 0}, "accumulate: expected at least 1, found 0"),
        ({"steps": 5, "threads": 0}, "threads: expected at least 1, found 0"),
    ],
)
def test_a_budget_is_needed(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ema": 1}, r"optim.ema: expected a decay in \[0, 1\), found 1"),
        ({"betas": (0.9, 1.0)}, r"optim.betas: expected a decay in \[0, 1\), found 1"),
        ({"betas": (math.nan, 0.9)}, r"optim.betas: expected a decay in \[0, 1\), found nan"),
        ({"lr": math.nan}, "optim.lr: expected a finite number of at least 0, found nan"),
        ({"lr": -1e-3}, "optim.lr: expected a finite number of at least 0, found -0.001"),
        ({"weight_decay": math.inf}, "optim.weight_decay: expected a finite number of at least 0, found inf"),
        ({"warmup": -5}, "optim.warmup: expected a finite number of at least 0, found -5"),
        ({"clip": math.nan}, "optim.clip: expected at least 0, found nan"),
        ({"batch": 0}, "optim.batch: expected at least 1, found 0"),
    ],
)
def test_what_nothing_can_be_trained_with_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(Optim(), **fields)
