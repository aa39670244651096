"""Contrastive losses in closed form, soft targets, negatives, queues and running means of weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nextmove.contracts import Rows, seeded
from nextmove.decoders.contrastive import Contrastive, equal_pairs, sigmoid_loss, softmax_loss
from nextmove.decoders.matching import matching_loss, negative_weights, negatives
from nextmove.decoders.momentum import FeatureQueue, Follower, ramp, soft_contrast


def test_the_softmax_loss_of_two_pairs_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0]])
    rows = [math.log(1 + math.exp(-3.0)), math.log(1 + math.exp(-0.5))]
    columns = [math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(-2.0))]
    assert float(softmax_loss(logits)) == pytest.approx((sum(rows) + sum(columns)) / 4, abs=1e-6)


def test_logits_that_say_nothing_cost_the_logarithm_of_the_batch() -> None:
    assert float(softmax_loss(torch.zeros(7, 7))) == pytest.approx(math.log(7), abs=1e-6)


def test_equal_texts_share_the_target() -> None:
    logits = torch.randn(3, 3, generator=seeded(0))
    same = torch.eye(3, dtype=torch.bool)
    assert torch.allclose(softmax_loss(logits, same), softmax_loss(logits))
    same[0, 1] = same[1, 0] = True
    found = -(logits.log_softmax(1) * torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])).sum(1).mean()
    other = -(logits.log_softmax(0) * torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])).sum(0).mean()
    assert torch.allclose(softmax_loss(logits, same), (found + other) / 2)


def test_the_sigmoid_loss_by_hand_and_at_its_start() -> None:
    def softplus(x: float) -> float:
        return math.log(1 + math.exp(x))

    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0]])
    expected = (softplus(-2.0) + softplus(-1.0) + softplus(0.5) + softplus(-1.0)) / 2
    assert float(sigmoid_loss(logits)) == pytest.approx(expected, abs=1e-6)
    same = torch.ones(2, 2, dtype=torch.bool)
    everything = (softplus(-2.0) + softplus(1.0) + softplus(-0.5) + softplus(-1.0)) / 2
    assert float(sigmoid_loss(logits, same)) == pytest.approx(everything, abs=1e-6)
    # At SigLIP's start, scale 10 and bias -10, with features at right angles.
    start = sigmoid_loss(torch.full((4, 4), -10.0)).item()
    assert start == pytest.approx(softplus(10.0) + 3 * softplus(-10.0), rel=1e-6)


def test_a_scale_beyond_its_largest_is_taken_back() -> None:
    scale = nn.Parameter(torch.tensor(5.0))
    Contrastive().bound(scale)
    assert scale.item() == 5.0
    Contrastive(most=100.0).bound(scale)
    assert scale.item() == pytest.approx(math.log(100))
    (2 * scale).backward()
    assert scale.grad is not None


def test_rows_with_a_number_in_common_belong_together() -> None:
    found = equal_pairs(torch.tensor([1, 2, 3, -1, -1]), torch.tensor([7, 8, 7, 9, 9]))
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = expected[3, 4] = expected[4, 3] = True
    assert torch.equal(found, expected)


def test_soft_targets_without_alpha_are_the_plain_loss() -> None:
    logits, taught = torch.randn(2, 3, 3, generator=seeded(2)).unbind()
    one_way = torch.nn.functional.cross_entropy(logits, torch.arange(3))
    assert torch.allclose(soft_contrast(logits, taught, 0.0), one_way)
    whole = -(logits.log_softmax(1) * taught.softmax(1)).sum(1).mean()
    assert torch.allclose(soft_contrast(logits, taught, 1.0), whole)
    assert torch.allclose(soft_contrast(logits, taught, 0.4), 0.4 * whole + 0.6 * one_way)
    wide = torch.randn(3, 5, generator=seeded(3))
    assert torch.allclose(soft_contrast(wide, wide, 0.0), torch.nn.functional.cross_entropy(wide, torch.arange(3)))


def test_alpha_rises_in_a_straight_line() -> None:
    assert [ramp(step, 4, 0.4) for step in (0, 1, 2, 4, 9)] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.4])
    assert ramp(0, 0, 0.4) == 0.4


def test_negatives_are_drawn_by_similarity_and_never_the_own_pair() -> None:
    logits = torch.tensor([[9.0, 0.0, 4.0], [0.0, 9.0, 0.0], [-50.0, 3.0, 9.0]])
    weights = negative_weights(logits)
    assert weights.diagonal().tolist() == [0, 0, 0]
    assert float(weights[0, 2]) == pytest.approx(float(logits[0].softmax(0)[2]) + 1e-4, abs=1e-7)
    rng, counts = seeded(4), torch.zeros(3, 3)
    for _ in range(2000):
        counts[torch.arange(3), negatives(logits, rng)] += 1
    expected = weights / weights.sum(1, keepdim=True)
    assert torch.allclose(counts / 2000, expected, atol=0.04)
    one = Rows([seeded(row) for row in range(3)])
    assert torch.equal(negatives(logits, one), negatives(logits, Rows([seeded(row) for row in range(3)])))


def test_rows_of_one_text_are_no_negatives_of_each_other() -> None:
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    found = torch.stack([negatives(torch.zeros(3, 3), seeded(seed), same) for seed in range(50)])
    assert set(found[:, 0].tolist()) == {2}
    assert set(found[:, 2].tolist()) == {0, 1}
    # Where all belong together there is no negative.
    assert negatives(torch.zeros(2, 2), seeded(0), torch.ones(2, 2, dtype=torch.bool)).tolist() == [0, 1]


def test_matching_averages_over_pairs_that_count() -> None:
    logits = torch.tensor([[0.0, 3.0], [0.0, 3.0], [0.0, 1.0]])
    each = [math.log(1 + math.exp(-3.0)), math.log(1 + math.exp(3.0)), math.log(1 + math.exp(1.0))]
    assert float(matching_loss(logits, 1)) == pytest.approx(sum(each) / 3, abs=1e-6)
    counted = torch.tensor([True, True, False])
    assert float(matching_loss(logits, 1, counted)) == pytest.approx(sum(each[:2]) / 2, abs=1e-6)


def test_a_queue_goes_round() -> None:
    queue = FeatureQueue(2, 4)
    first = queue.image.clone()
    assert torch.allclose(first.norm(dim=0), torch.ones(4))
    a, b, c = (torch.full((2, 2), float(i)) for i in range(3))
    queue.push(a, -a)
    assert torch.equal(queue.image[:, 2:], first[:, 2:])
    queue.push(b, -b)
    queue.push(c, -c)
    assert queue.image[0].tolist() == [2, 2, 1, 1]
    assert queue.text[0].tolist() == [-2, -2, -1, -1]
    assert int(queue.place) == 2
    with pytest.raises(ValueError, match="expected a multiple of the batch of 3, found 4"):
        queue.push(torch.zeros(3, 2), torch.zeros(3, 2))


def test_a_follower_is_a_running_mean_that_nothing_trains() -> None:
    net = nn.Linear(2, 1, bias=False)
    modules = nn.ModuleDict({"net": net, "again": net})
    follower = Follower(modules, 0.9)
    start = net.weight.detach().clone()
    assert not list(follower.parameters())
    assert follower.copies["net"].weight is follower.copies["again"].weight
    with torch.no_grad():
        net.weight.add_(1.0)
    assert torch.equal(follower.copies["net"].weight, start)
    follower.follow(modules)
    assert torch.allclose(follower.copies["net"].weight, start + 0.1)
    assert "copies.net.weight" in follower.state_dict()
    assert follower.copies["net"](torch.ones(1, 2)).requires_grad is False
    with pytest.raises(ValueError, match=r"momentum: expected a decay in \[0, 1\), found 1"):
        Follower(modules, 1.0)


@pytest.mark.parametrize(("fields", "what"), [({"rule": "hinge"}, "rule"), ({"most": 0.0}, "most")])
def test_what_a_config_refuses(fields: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what}: expected"):
        Contrastive(**fields)
