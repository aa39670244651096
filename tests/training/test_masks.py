"""Means over what a mask counts do not depend on how a batch is cut."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tests.training.masked import HORIZON, ROWS, RULES, apart, batch, gradients, policy

from nextmove.contracts import seeded
from nextmove.parts import DECODERS
from nextmove.training.distributed import World
from nextmove.training.validation import Validation


def test_every_rule_is_tried():
    kinds = {type(rule) for rule in RULES.values()}
    assert kinds >= set(DECODERS.values())
    half = batch()["action_is_pad"].float().view(2, -1).mean(1)
    assert half[1] - half[0] > 0.5


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("rule", RULES)
def test_accumulated_steps_are_the_undivided_one(rule, parts):
    assert apart(gradients(rule), gradients(rule, parts)) < 1e-6


@dataclass(frozen=True)
class Told(World):
    """A process that gets what the others would send."""

    def gather(self, rows):
        """The masks of the whole batch."""
        whole = batch()["action_is_pad"]
        assert torch.equal(rows, whole[self.rank * ROWS // self.size :][: ROWS // self.size])
        return whole

    def sum(self, values):
        """As if all had the same."""
        return [value * self.size for value in values]

    def mean_gradients(self, parameters):
        """Left to the caller."""


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_of_two_processes_is_the_undivided_step(rule):
    found = [gradients(rule, 2, Told(rank, 2)) for rank in (0, 1)]
    mean = {name: (found[0][name] + found[1][name]) / 2 for name in found[0]}
    assert apart(gradients(rule), mean) < 1e-6


@pytest.mark.parametrize("rule", ["regression", "mixture", "tokens"])
def test_held_out_batches_count_by_what_their_masks_count(rule):
    model, whole = policy(rule), batch(11)

    def judged(*batches):
        judge = Validation(batches, seed=0, world=World(), device=torch.device("cpu"), mixed=False)
        return judge(model)

    cut = [{name: value[rows] for name, value in whole.items()} for rows in (slice(0, 4), slice(4, 10), slice(10, 11))]
    assert judged(*cut) == pytest.approx(judged(whole), rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_policy_tells_what_its_means_count(rule):
    model, own = policy(rule).eval(), batch()
    valid = int((~own["action_is_pad"]).sum())
    counts = {name: float(count) for name, count in model.counts(own, rng=seeded(0)).items()}
    terms = model.loss(own, rng=seeded(0))
    expected = {"meanflow": ROWS, "tokens": 2 * valid}.get(rule, valid)
    for name in terms.keys() - {"kl"}:
        if "prefix" in rule or rule == "latent":
            assert ROWS < counts[name] < valid < ROWS * HORIZON
        else:
            assert counts[name] == expected
