"""Frozen parameters have no average and in checkpoints no place but a hash; rates by prefix, of which 0 freezes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.training.tiny import OPTIM, Tiny, held, run
from torch import nn

from nextmove.contracts import Optim
from nextmove.training import Ema
from nextmove.training.checkpoint import CheckpointError
from nextmove.training.optim import Update, factors, trainable, undecayed


class Backed(Tiny):
    """The tiny model behind a frozen part a hundred times its size."""

    def __init__(self, base: int = 0, **options) -> None:
        super().__init__(**options)
        drawn = torch.Generator().manual_seed(base)
        self.base = nn.Linear(3, 10_000, bias=False)
        self.base.weight.data = torch.randn(10_000, 3, generator=drawn)
        self.base.requires_grad_(False)

    def loss(self, batch, *, rng):
        return super().loss(batch | {"x": batch["x"] + self.base(batch["x"]).mean(-1, keepdim=True)}, rng=rng)


def files(result):
    state = load_file(result.checkpoint / "state.safetensors")
    return state, json.loads((result.checkpoint / "state.json").read_text())


def test_averages_share_what_is_frozen():
    model = Backed()
    ema = Ema(model, 0.999)
    mine, live = dict(ema.model.named_parameters()), dict(model.named_parameters())
    shared = {name for name in live if mine[name].data_ptr() == live[name].data_ptr()}
    assert shared == {"base.weight"}
    assert mine["base.weight"] is live["base.weight"]


def test_a_checkpoint_holds_what_is_trained_and_a_hash_of_the_rest(tmp_path):
    model = Backed()
    result, _ = run(tmp_path, model, steps=4, validation=held())
    state, facts = files(result)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.removeprefix("model/") for name in state if name.startswith("model/")} == {*trained, "seen"}
    assert {name.removeprefix("ema/") for name in state if name.startswith("ema/")} == {*trained, "seen"}
    assert list(facts["frozen"]) == ["base.weight"]
    numbers = 4 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    for kind, most in (("last-4", numbers), ("best-*", numbers // 4)):
        (path,) = (tmp_path / "checkpoints").glob(f"{kind}/state.safetensors")
        assert path.stat().st_size <= most + 4096
    assert set(result.ema) == set(model.state_dict())
    assert result.ema["base.weight"].data_ptr() == model.base.weight.data_ptr()
    again = Backed(seed=5)
    result.give(again)
    assert all(torch.equal(value, result.ema[name]) for name, value in again.state_dict().items())


def test_a_run_on_the_same_base_goes_on_bit_by_bit(tmp_path):
    through, _ = run(tmp_path / "a", Backed(), steps=6)
    run(tmp_path / "b", Backed(), steps=6, stop=3)
    resumed, _ = run(tmp_path / "b", Backed(), steps=6, resume=True)
    assert all(torch.equal(value, resumed.ema[name]) for name, value in through.ema.items())


@pytest.mark.parametrize(
    ("model", "optim", "message"),
    [
        (lambda: Backed(base=1), OPTIM, r"frozen parameter base\.weight: expected weights of hash \w+, found \w+: an"),
        (
            lambda: Backed().requires_grad_(True),
            OPTIM,
            r"base\.weight: trained by this run, frozen in the ch",
        ),
        (Tiny, OPTIM, r"base\.weight: .*frozen in the checkpoint's"),
        (lambda: freeze(Backed(), "last"), OPTIM, r"last\.weight: frozen in this run, trained by the checkpoint's"),
        (Backed, replace(OPTIM, scales=(("last", 0.5),)), r"optim\.scales: .*written with \[\], this run has"),
    ],
)
def test_what_differs_from_the_checkpoint_is_named(tmp_path, model, optim, message):
    run(tmp_path, Backed(), steps=4, stop=2)
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, model(), optim=optim, steps=4, resume=True)


def freeze(model, part):
    model.get_submodule(part).requires_grad_(False)
    return model


@pytest.mark.parametrize("scales", [(("", 0.0), ("last", 1.0)), (("embed", 0.0), ("norm", 0.0), ("first", 0.0))])
def test_a_factor_of_0_freezes_for_the_run(tmp_path, scales):
    model, before = Tiny(), Tiny().state_dict()
    result, _ = run(tmp_path, model, optim=replace(OPTIM, scales=scales), steps=3)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"last.weight", "last.bias"}
    assert all(p.requires_grad for p in model.parameters())
    state, facts = files(result)
    assert {name for name in state if name.startswith("ema/")} == {"ema/last.weight", "ema/last.bias", "ema/seen"}
    assert "first.weight" in facts["frozen"]


def test_the_longest_prefix_gives_the_factor_of_a_rate():
    model = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(2, 2), "bc": nn.Linear(2, 2)}), "d": nn.Linear(2, 2)})
    optim = Optim(lr=0.1, weight_decay=0.0, clip=0, scales=(("a", 0.5), ("a.b", 0.1), ("a.b.bias", 0.0)))
    of = factors(model, optim.scales)
    assert of == {
        "a.b.weight": 0.1, "a.b.bias": 0.0, "a.bc.weight": 0.5, "a.bc.bias": 0.5, "d.weight": 1.0, "d.bias": 1.0,
    }  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    update = Update(trainable(model), optim, undecayed=undecayed(model), factors=of)
    sum(p.sum() for p in model.parameters()).backward()
    assert update.apply(1.0, 1.0) == 0.1
    for name, p in model.named_parameters():
        # The first step of Adam is the rate, whatever the gradient.
        torch.testing.assert_close(before[name] - p, torch.full_like(p, 0.1 * of[name]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([("frist", 0.1)], r"optim\.scales: 'frist': expected the beginning of a trained .* did you mean 'first'"),
        ([("firs", 0.1)], r"optim\.scales: 'firs': expected the beginning"),
        ([("base", 0.1)], r"optim\.scales: 'base': expected the beginning of a trained parameter"),
        ([("first", -1.0)], r"optim\.scales: 'first': expected a factor of at least 0, found -1"),
        ([("first", float("nan"))], r"optim\.scales: 'first': expected a factor of at least 0, found nan"),
        ([("first", 1.0), ("first", 2.0)], r"optim\.scales: 'first': expected one factor, found two"),
    ],
)
def test_scales_that_say_nothing_are_refused(tmp_path, scales, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, Backed(), optim=replace(OPTIM, scales=tuple(scales)), steps=1)
    assert not list(tmp_path.rglob("last-*"))


def test_a_run_that_freezes_everything_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected parameters to train, found none"):
        run(tmp_path, Tiny(), optim=replace(OPTIM, scales=(("", 0.0),)), steps=1)


def test_averages_that_could_not_move_are_refused():
    model = Tiny()
    model.last.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"optim\.ema: .*found last\.weight of torch\.bfloat16, which would stay"):
        Ema(model, 0.9999)
    Ema(model, 0.0)
    Ema(freeze(model, "last"), 0.9999)
