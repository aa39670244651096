"""Every decoder, scaling, codec and sampler that the command line can put together reaches the data, or is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.pairs import SPEC, PerfectTrunk, around, demonstrations, walk
from tests.models.test_policies import shrink

from nextmove import store
from nextmove.config import ConfigError
from nextmove.decoders import Diffusion, Mixture, Sampler
from nextmove.decoders.reach import as_saved, reach
from nextmove.decoders.solvers import SOLVERS, Ddim
from nextmove.jobs.tasks.exchanged import exchange
from nextmove.models.generator import ImageSpec
from nextmove.models.model import with_sampling
from nextmove.nn import UNet2d
from nextmove.systems import built, find

# What a refusal says to choose, or why there is nothing to choose.
SAID = ("choose", "has no velocity")


def test_every_pair_is_refused_by_name_or_its_plans_reach_what_was_demonstrated() -> None:
    pairs = list(walk())
    assert len(pairs) > 800
    assert {p.system for p in pairs} == {s.name for s in built("policy")}
    assert {p.sampler for p in pairs} == {None, *SOLVERS}
    for pair in pairs:
        if pair.verdict == "refused":
            assert any(words in pair.sentence for words in SAID), pair
        else:
            # One step from t = .01 on overshoots by a hundredth.
            assert 0.99 < pair.reach < 1.03, pair
    verdicts = {(p.decoder, p.scaling): p.verdict for p in pairs if p.sampler is None}
    assert verdicts["Diffusion", "mean_std"] == "refused"
    assert verdicts["Diffusion", "mean_std, exchanged for min_max"] == "brings min_max"
    assert verdicts["Flow", "mean_std"] == verdicts["Autoregressive", "quantiles"] == "allowed"


@pytest.mark.parametrize("change", [{"scaling": "mean_std"}, {"scaling": "quantiles"}])
def test_a_clip_around_another_scaling_is_refused(change: dict[str, Any]) -> None:

    recipe = find("diffusion-policy").load()()
    recipe = replace(recipe, actions=replace(recipe.actions, **change), decoder=around(recipe.decoder))
    with pytest.raises(ConfigError, match=r"actions\.scaling .*cuts what it generates at 1.*choose .*min_max"):
        recipe.build(SPEC)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("flow-policy", {"bins": 256}, r"actions\.bins: expected 0, for Flow generates numbers"),
    ("action-tokens", {"bins": 0}, r"actions\.bins: expected 256, one for each of decoder\.classes, found 0"),
    ("action-tokens", {"bins": 512}, r"actions\.bins: expected 256.*found 512"),
]


@pytest.mark.parametrize(("system", "change", "words"), REFUSED)
def test_bins_and_decoders_of_ids_belong_together(system: str, change: dict[str, Any], words: str) -> None:
    recipe = find(system).load()()
    with pytest.raises(ConfigError, match=words):
        replace(recipe, actions=replace(recipe.actions, **change)).build(SPEC)


@pytest.mark.parametrize(
    ("system", "decoder", "trunk", "words"),
    [
        ("gpt", "flow", None, "network of ids; add --trunk"),
        ("vqgan-prior", "flow", None, "network of ids; add --trunk"),
        ("action-tokens", None, "mlp", "add --decoder"),
        ("act", None, "mlp", "--trunk: Act wraps its network in more than one rule"),
    ],
)
def test_exchanges_of_what_does_not_fit_are_refused(
    system: str, decoder: str | None, trunk: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        exchange(find(system).load()(), decoder, trunk)


def test_an_exchange_brings_the_action_space_it_needs() -> None:
    flow, tokens = find("flow-policy").load()(), find("action-tokens").load()()
    assert exchange(flow, "diffusion", "unet1d").actions == replace(flow.actions, scaling="min_max")
    assert exchange(flow, "consistency", None).actions == flow.actions
    assert exchange(tokens, "flow", "mlp").actions == replace(tokens.actions, bins=0)
    assert exchange(tokens, "flow", None).actions == replace(tokens.actions, bins=0)
    assert exchange(tokens, "flow", None).decoder.trunk == tokens.decoder.trunk, "numbers from the network of ids"


def test_meanflow_around_an_lstm_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="MeanFlow differentiates forward"):
        exchange(find("lstm-gmm").load()(), "meanflow", None).build(SPEC)


def test_a_model_saved_with_a_contradiction_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = shrink(find("diffusion-policy").load()())
    recipe = replace(own, actions=replace(own.actions, scaling="mean_std"))
    with as_saved("test"):
        policy = store.create("diffusion-policy", SPEC, recipe)
    policy.fit([demonstrations(policy)])
    store.save(policy, tmp_path / "model")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = store.load(tmp_path / "model")
    assert str(tmp_path / "model") in caplog.text
    assert "could not reach all that was demonstrated" in caplog.text
    # No sampler makes it worse than it was trained to be.
    with_sampling(again, "ddim", 2)
    with pytest.raises(ConfigError):
        store.create("diffusion-policy", SPEC, recipe)


def test_a_sampler_that_ends_before_the_data_is_refused_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = find("flow-policy").load()()
    policy = replace(recipe, decoder=around(recipe.decoder)).build(SPEC)
    monkeypatch.setattr(Sampler, "asked", lambda *_: Sampler(Ddim(), 4, clip=1.0))
    with pytest.raises(ConfigError, match="sampler: data have no end"):
        with_sampling(policy, "ddim", 4)


@pytest.mark.parametrize(("clip", "fine"), [(1.0, True), (0.0, True), (0.5, False)])
def test_pixels_reach_one(clip: float, fine: bool) -> None:
    own = find("ddpm").load()()
    trunk = UNet2d(channels=8, multipliers=(1,), blocks=1, groups=4)
    decoder = replace(own.decoder, trunk=trunk, sampler=replace(own.decoder.sampler, clip=clip))
    recipe = replace(own, decoder=decoder)
    if fine:
        assert recipe.build(ImageSpec(8, 8)).codec.end == 1.0
    else:
        with pytest.raises(ConfigError, match=r"pixels: data reach 1.*cuts what it generates at 0\.5"):
            recipe.build(ImageSpec(8, 8))


def test_bins_end_where_the_scaled_data_do() -> None:
    recipe = find("action-tokens").load()()
    recipe = replace(
        recipe,
        actions=replace(recipe.actions, scaling="mean_std"),
        decoder=replace(recipe.decoder, trunk=PerfectTrunk()),
    )
    policy = recipe.build(SPEC)
    batch = demonstrations(policy)
    policy.fit([batch])
    assert float(policy.codec.bins.high[0]) > 4  # a gripper closed in a twentieth of the windows
    found = policy.codec.decode(policy.codec.encode(batch["action"], batch), batch)
    span = batch["action"].amax((0, 1)) - batch["action"].amin((0, 1))
    assert bool(((found - batch["action"]).abs() <= span / 256 + 1e-6).all())
    assert policy.codec.bins.outside < 1e-3


def test_reach_is_asked_through_what_stands_around_a_decoder() -> None:
    assert reach(Mixture(trunk=None, tanh=True)) == 1.0
    assert reach(find("act").load()().decoder) == float("inf")
    diffusion = around(Diffusion(trunk=None)).build(shape=(4, 2), context=None)
    assert reach(diffusion) == 1.0
    assert reach(diffusion.with_sampler(Sampler(Ddim(), 4))) == float("inf")
