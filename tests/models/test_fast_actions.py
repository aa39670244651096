"""FAST as the codec of a policy of ids: fitted, trained, saved, constrained, and what contradicts it refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nextmove import store
from nextmove.codecs.fast import FILE
from nextmove.contracts import Known, normal, seeded
from nextmove.decoders import Autoregressive, Flow
from nextmove.decoders.sampling import Sampling
from nextmove.jobs.adopt import begin
from nextmove.jobs.tuned import begin_whole
from nextmove.models.policy import ActionSpace, PolicySpec, Timing
from nextmove.models.policy.action_tokens import ActionTokens
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.nn import Gpt, Mlp

STATE = "observation.state"
SPEC = PolicySpec.of_states({STATE: 3}, 2, 10.0)
SPACE = ActionSpace("quantiles", per_step=False, fast=200, space="absolute")
DECODER = Autoregressive(trunk=Gpt(width=32, layers=1, heads=2), sampling=Sampling(temperature=0.0))
SMALL = ActionTokens(Timing(1, 8, 4), actions=SPACE, decoder=DECODER)


def batch(rows: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Chunks that turn the way the state says."""
    state = normal((rows, 1, 3), seeded(seed))
    phase = torch.linspace(0, 3, 8)[:, None] + torch.tensor([0.0, 1.5])
    action = state[:, :1, :1].sign() * torch.sin(phase) + 0.02 * normal((rows, 8, 2), seeded(seed + 1))
    return {STATE: state, "action": action, "action_is_pad": torch.zeros(rows, 8, dtype=torch.bool)}


def policy(**changes: Any) -> Any:
    torch.manual_seed(0)
    made = store.create("action-tokens", SPEC, replace(SMALL, **changes))
    made.fit([batch()])
    return made


def test_ids_have_ends_and_rows_count_alike():
    made, rows = policy(), batch()
    assert made.decoder.config.classes == 201
    x = made.codec.encode(rows["action"], rows)
    assert x.shape[1] < made.shape[0] == 8 * 2 * 2 + 1
    assert (x == 200).sum(1).eq(1).all()
    torch.testing.assert_close(made.codec.decode(x, rows), rows["action"], atol=0.2, rtol=0)
    ctx = made.context(rows)
    own = made.decoder.log_prob(ctx, x).masked_fill(x < 0, 0.0).sum(1) / (x >= 0).sum(1)
    torch.testing.assert_close(made.loss(rows, rng=seeded(0))["nll"], -own.mean(), rtol=1e-4, atol=0)
    # What stands behind the end changes nothing.
    torch.testing.assert_close(
        made.decoder.loss_at(ctx, torch.nn.functional.pad(x, (0, 3), value=-1))["nll"], -own.mean(), rtol=1e-4, atol=0
    )
    assert made.counts(rows, rng=seeded(0)) == {}


def test_untrained_plans_are_whole_and_trained_ones_follow_the_state():
    made, rows = policy(), batch()
    seen = {STATE: batch(20, seed=5)[STATE]}
    for temperature in (0.0, 1.0):
        made.decoder.config = replace(made.decoder.config, sampling=Sampling(temperature))
        assert made.eval().act(seen, rng=seeded(0)).actions.isfinite().all()
    assert made.codec.fast.broken == 0
    made.decoder.config = replace(made.decoder.config, sampling=Sampling(0.0))
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for step in range(60):
        optimizer.zero_grad()
        made.train().loss(batch(seed=step), rng=seeded(step))["nll"].backward()
        optimizer.step()
    wanted = batch(20, seed=5)["action"]
    error = (made.eval().act(seen, rng=seeded(0)).actions - wanted).abs().mean()
    assert error < 0.25
    assert rows["action"].abs().mean() > 0.5


def test_saved_with_its_tokenizer(tmp_path):
    made, seen = policy().eval(), {STATE: batch(3)[STATE]}
    store.save(made, tmp_path)
    assert (tmp_path / FILE).is_file()
    loaded = store.load(tmp_path)
    assert torch.equal(loaded.act(seen, rng=seeded(1)).actions, made.act(seen, rng=seeded(1)).actions)
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=FILE):
        store.load(tmp_path)


def test_a_codec_begins_with_another_ones_pieces(tmp_path):
    store.save(policy(), tmp_path)
    other = store.create("action-tokens", SPEC, SMALL)
    other.fit([{**batch(), "action": 3 * normal((64, 8, 2), seeded(9))}])
    assert other.codec.fast.fast.text != (tmp_path / FILE).read_text()
    before = other.codec.rule
    begin(other, {"codec": tmp_path})
    assert other.codec.rule is not before
    assert other.codec.rule is other.codec.rule
    assert other.codec.fast.fast.text == (tmp_path / FILE).read_text()
    assert other.codec.encode(batch()["action"], {}).tolist() == policy().codec.encode(batch()["action"], {}).tolist()


@pytest.mark.parametrize("keep", [True, False])
def test_a_whole_policy_goes_on_with_the_pieces_of_its_scales(keep, tmp_path):
    store.save(policy(), tmp_path)
    other = store.create("action-tokens", SPEC, SMALL)
    other.fit([{**batch(), "action": 3 * normal((64, 8, 2), seeded(9))}])
    begin_whole(other, tmp_path, keep_scales=keep)
    assert (other.codec.fast.fast.text == (tmp_path / FILE).read_text()) == keep
    assert other.eval().act({STATE: batch(3)[STATE]}, rng=seeded(0)).actions.isfinite().all()
    assert other.codec.fast.broken == 0


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        (replace(SMALL, actions=replace(SPACE, bins=256)), r"actions\.fast: expected 0 with 256 bins"),
        (replace(SMALL, actions=replace(SPACE, width=8)), r"actions\.width: expected 0 with bins or FAST"),
        (replace(SMALL, actions=replace(SPACE, mask_padding=True)), "ids belong to no step"),
        (replace(SMALL, actions=replace(SPACE, fast=0)), "expected bins or FAST for a decoder of ids, found neither"),
        (replace(SMALL, decoder=replace(DECODER, classes=200)), r"expected decoder\.classes 201 and decoder\.ends"),
        (
            FlowPolicy(actions=SPACE, decoder=Flow(trunk=Mlp())),
            r"actions\.fast: expected 0, for Flow generates numbers",
        ),
    ],
)
def test_what_contradicts_it_is_refused(recipe, error):
    with pytest.raises(ValueError, match=error):
        recipe.build(SPEC)


def test_known_actions_are_refused():
    made = policy().eval()
    known = Known(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="FAST's ids says something of all steps"):
        made.act({STATE: batch(1)[STATE]}, rng=seeded(0), known=known)
