"""Plans around what is decided already: rows, units, alignment, padding, and what cannot be known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.models.test_policies import make, windows

from nextmove.contracts import Known, Rows, seeded
from nextmove.models.policy import ActionSpace, Policy, PolicySpec, Timing
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.systems import built

NAMES = [system.name for system in built("policy")]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fixed_stays_in_the_robots_units(name: str) -> None:
    policy = make(name).eval()
    obs = windows(policy, 3)
    n = min(3, policy.horizon - policy.timing.first)
    fixed = obs["observation.state"][:, -1:] + torch.tensor([2.0, -1.0]) * torch.arange(1, n + 1)[:, None]
    known = Known(fixed, torch.ones_like(fixed))
    plan = policy.act(obs, rng=Rows([seeded(i) for i in range(3)]), known=known).actions
    # Action tokens have bins of the fitted range.
    bound = 2e-3 if name != "action-tokens" else 5.0
    assert (plan[:, :n] - fixed).abs().max() < bound * (1 if name == "action-tokens" else fixed.abs().max())
    free = policy.act(obs, rng=Rows([seeded(i) for i in range(3)])).actions
    assert not torch.allclose(free[:, :n], fixed, atol=0.1)


def test_known_rows_begin_now_whatever_the_window() -> None:
    policy = make("diffusion-policy").eval()
    assert policy.timing.first == 1
    obs = windows(policy, 2)
    value = torch.full((2, 2, 2), 7.0)
    inside = policy.codec.known(Known(value, torch.ones_like(value)), obs, first=1, horizon=policy.horizon)
    assert inside.weight[:, :, 0].tolist() == [[0, 1, 1] + [0] * (policy.horizon - 3)] * 2
    torch.testing.assert_close(policy.codec.decode(inside.value, obs)[:, 1:3], value, rtol=1e-4, atol=1e-3)
    later = policy.codec.known(Known(value, torch.ones_like(value), start=4), obs, first=1, horizon=policy.horizon)
    assert later.weight[0, :, 0].nonzero().flatten().tolist() == [5, 6]


def test_weights_between_pull_softly() -> None:
    policy = make("flow-policy").eval()
    obs = windows(policy, 4)
    value = obs["observation.state"][:, -1:].expand(-1, 4, -1) + 400.0
    rng = Rows([seeded(i) for i in range(4)])
    off = {}
    for weight in (0.0, 1.0):
        plan = policy.act(obs, rng=Rows([seeded(i) for i in range(4)]), known=Known(value, value * 0 + weight)).actions
        off[weight] = (plan[:, :4] - value).abs().mean()
    assert torch.equal(
        policy.act(obs, rng=rng).actions,
        policy.act(obs, rng=Rows([seeded(i) for i in range(4)]), known=Known(value, torch.zeros_like(value))).actions,
    )
    assert off[1.0] < 0.01 * off[0.0]


def test_arrays_are_known_as_tensors_are() -> None:
    policy = make("flow-policy").eval()
    obs = windows(policy, 2)
    value, weight = torch.randn(2, 3, 2), (torch.rand(2, 3, 1) > 0.5).expand(2, 3, 2).float()
    rows = [seeded(0), seeded(1)]
    plan = policy.act(obs, rng=Rows(rows), known=Known(value, weight, 1)).actions
    arrays: tuple[Any, Any, Any] = (value.numpy(), weight.numpy().astype(bool), np.int64(1))
    assert torch.equal(policy.act(obs, rng=Rows([seeded(0), seeded(1)]), known=Known(*arrays)).actions, plan)
    flipped = Known(value.numpy()[:, ::-1], weight.numpy().astype(np.float64)[:, ::-1])  # type: ignore[arg-type]
    assert policy.act(obs, rng=Rows([seeded(0), seeded(1)]), known=flipped).actions.shape == plan.shape


def known(shape: tuple[int, ...], start: Any = 0, weight: tuple[int, ...] | None = None) -> Known:
    return Known(torch.zeros(shape), torch.ones(weight or shape), start)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (known((1, 2, 2), start=-1), "known.start: expected steps from now on, 0 or more, found -1, in the past"),
        (known((1, 2, 3)), r"known.value: expected \(B, n, 2\), found \(1, 2, 3\)"),
        (known((2, 2)), r"known.value: expected \(B, n, 2\), found \(2, 2\)"),
        (known((1, 2, 2), weight=(1, 2)), r"known.weight: expected \(1, 2, 2\), as the value's, found \(1, 2\)"),
        (known((1, 17, 2)), "known.value: expected 1 to 16 steps, found 17"),
        (known((1, 4, 2), start=13), "known.value: expected 1 to 3 steps, found 4"),
        (Known(torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, 2)), "known.value: expected finite numbers where"),
        (Known(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 2.0)), r"known.weight: expected numbers from 0 .* to 1"),
        (Known(torch.zeros(1, 2, 2), torch.full((1, 2, 2), -0.1)), r"known.weight: expected numbers from 0 .* to 1"),
        (Known(torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan)), r"known.weight: expected numbers from 0"),
        (known((2, 2, 2)), "known.value: expected 1 rows, as observed, found 2"),
        (known((1, 0, 2)), "known.value: expected 1 to 16 steps, found 0"),
        (known((1, 2, 2), start=1.0), "known.start: expected a whole number of steps from now on, found 1.0"),
        (known((1, 2, 2), start="now"), "known.start: expected a whole number of steps from now on, found 'now'"),
        (Known(torch.zeros(1, 2, 2), 1.0), r"known.weight: expected \(1, 2, 2\), as the value's, found \(\)"),
        (Known("left", torch.ones(1, 2, 2)), "known.value: expected a tensor or an array of numbers, found str"),
        (Known([[1.0], [1.0, 2.0]], None), "known.value: expected a tensor or an array of numbers, found list"),
        (Known(torch.zeros(1, 2, 2), None), "known.weight: expected a tensor or an array of numbers, found NoneType"),
        (Known(np.ones((1, 2, 2), complex), np.ones((1, 2, 2))), "known.value: expected real numbers, found torch.c"),
        (torch.zeros(1, 2, 2), r"known: expected contracts.Known\(value, weight, start\), found Tensor"),
    ],
)
def test_a_known_part_that_does_not_fit_is_named(given: Any, message: str) -> None:
    policy = make("flow-policy").eval()
    with pytest.raises(ValueError, match=message):
        policy.act(windows(policy, 1), rng=seeded(0), known=given)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_weight_may_be_no_number(name: str) -> None:
    policy = make(name).eval()
    obs = windows(policy, 2)
    value = obs["observation.state"][:, -1:].clone()
    plans = []
    for other in (0.0, torch.nan):
        hole = value.clone()
        hole[..., 1] = other
        weight = torch.zeros_like(value)
        plans.append(policy.act(obs, rng=Rows([seeded(0), seeded(1)]), known=Known(hole, weight)).actions)
    assert torch.equal(*plans)


def padded(width: int, **more: Any) -> tuple[Policy, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    recipe = FlowPolicy(actions=ActionSpace(width=width, **more), timing=Timing(horizon=4))
    policy = recipe.build(PolicySpec.of_states({"observation.state": 2}, 2, 10.0))
    batch = {"observation.state": torch.randn(8, 2, 2), "action": torch.randn(8, 4, 2)}
    batch["action_is_pad"] = torch.arange(4) >= torch.tensor([4, 3] * 4)[:, None]
    policy.fit([batch])
    return policy.eval(), batch


@pytest.mark.parametrize("masked", [False, True])
def test_actions_are_padded_to_a_width_and_the_padding_counts_nothing(masked: bool) -> None:
    policy, batch = padded(5, mask_padding=masked)
    assert policy.shape == (4, 5)
    x = policy.codec.encode(batch["action"], batch)
    assert x[..., 2:].eq(0).all()
    torch.testing.assert_close(policy.codec.decode(x, batch), batch["action"])
    weight = policy.codec.weight(batch["action_is_pad"])
    assert weight is not None
    assert weight.shape == (8, 4, 5)
    assert weight.sum() == 2 * ((~batch["action_is_pad"]).sum() if masked else 32)
    assert policy.act(batch, rng=seeded(0)).actions.shape == (8, 4, 2)
    narrow = padded(0)[0]
    assert narrow.codec.weight(batch["action_is_pad"]) is None
    with pytest.raises(ValueError, match=r"actions.width: expected at least the robot's 2, found 1"):
        padded(1)


def test_relative_actions_need_a_place_to_be_relative_to() -> None:
    with pytest.raises(
        ValueError, match=r"actions.reference: expected a state as wide as the action, 2, .*'observation.goal'"
    ):
        padded(0, space="relative", reference="observation.goal")
    with pytest.raises(ValueError, match=r"actions.frame: 'object' needs an encoder that shows points"):
        padded(0, frame="object")
