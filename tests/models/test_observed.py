"""What enters a policy is checked before any network sees it, and named by feature, joint, row and tick."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.shown import shown
from tests.models.test_policies import shrink

from nextmove import control
from nextmove.contracts import TASK, Feature, ObservationError, normal, seeded
from nextmove.models.policy import Policy, PolicySpec
from nextmove.systems import built, find

SPEC = PolicySpec(
    {
        "observation.state": Feature("state", (3,), ("waist", "elbow", "wrist")),
        "observation.gripper": Feature("state", (1,)),
        "observation.image": Feature("image", (40, 36, 3)),
        "observation.point_cloud": Feature("points", (8, 3)),
        TASK: Feature("text"),
    },
    action=2,
    fps=10.0,
)


def make(system: str) -> Policy:
    torch.manual_seed(0)
    policy: Policy = shrink(find(system).load()()).build(SPEC)
    batch = shown(policy.inputs, 16, policy.n_obs_steps)
    policy.fit([{**batch, "action": normal((16, policy.horizon, 2), seeded(5))}])
    return policy.eval()


def seen(**change: Any) -> dict[str, Any]:
    image = np.zeros((40, 36, 3), np.uint8)
    states = {"observation.state": np.zeros(3, np.float32), "observation.gripper": np.zeros(1, np.float32)}
    states["observation.point_cloud"] = np.zeros((8, 3), np.float32)
    return {**states, "observation.image": image, TASK: "push the block", **change}


@pytest.mark.parametrize("system", [s.name for s in built("policy")])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_policy_acts_upon_what_is_no_number(system: str, bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(system)
    controller = control.Receding(policy, seeded(0), n_action_steps=1)
    controller.step(seen())

    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was called")

    monkeypatch.setattr(policy, "context", called)
    state = np.array([0.0, bad, 0.0], np.float32)
    with pytest.raises(
        ValueError, match=r"observation\.state\[1\] \(elbow\): expected finite.*found (nan|-?inf).*tick 1"
    ):
        controller.step(seen(**{"observation.state": state}))


def test_rows_and_ticks_are_those_of_the_controller() -> None:
    policy = make("bc")
    controller = control.BatchedReceding(policy, 3, n_action_steps=1)
    for row in range(3):
        controller.reset(row, seeded(row))
    controller.step([seen(), None, seen()])
    with pytest.raises(ValueError, match=r"gripper\[0\].*found nan \(observation of row 2, tick 1\)"):
        controller.step([None, None, seen(**{"observation.gripper": np.array([np.nan])})])
    # It is still among the last two.
    with pytest.raises(ValueError, match=r"gripper\[0\].*found nan \(observation of row 2, tick 1\)"):
        controller.step([None, seen(), seen()])


@pytest.mark.parametrize("number", [0.25, np.float64(0.25), np.array(0.25), np.array([0.25]), torch.tensor(0.25)])
def test_a_plain_number_is_a_feature_of_width_one(number: Any) -> None:
    policy, expected = make("bc"), seen(**{"observation.gripper": np.array([0.25], np.float32)})
    actions = []
    for gripper in (number, expected["observation.gripper"]):
        controller = control.Receding(policy, seeded(0))
        actions.append(controller.step(seen(**{"observation.gripper": gripper})))
    np.testing.assert_array_equal(*actions)


def test_one_number_a_step_is_taken_and_kinds_are_made_one() -> None:
    policy = make("bc")
    obs = {"observation.state": torch.ones(4, 2, 3), "observation.gripper": torch.ones(4, 2, 1)}
    plan = policy.act(obs, rng=seeded(0)).actions
    for kind in (torch.float64, torch.int64, torch.uint8, torch.bool):
        other = {
            "observation.state": obs["observation.state"].to(kind),
            "observation.gripper": torch.ones(4, 2).to(kind),
        }
        assert torch.equal(policy.act(other, rng=seeded(0)).actions, plan)
    assert torch.equal(policy.act({k: v.numpy() for k, v in obs.items()}, rng=seeded(0)).actions, plan)


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"observation.state": None},
        r"observation: expected feature 'observation\.state', found \['observation\.gripper'\]",
    ),
    ({"observation.state": torch.zeros(4, 2, 2)}, r"observation\.state: expected width 3, found 2"),
    ({"observation.gripper": torch.zeros(4, 2, 5)}, r"observation\.gripper: expected width 1, found 5"),
    ({"observation.state": torch.zeros(4, 3)}, r"observation\.state: expected shape \(B, T, 3\), found \(4, 3\)"),
    ({"observation.state": torch.zeros(4, 1, 3)}, r"observation\.state: expected the last 2 observations, found 1"),
    ({"observation.state": torch.zeros(4, 2, 1, 3)}, r"expected shape \(B, T, 3\), found \(4, 2, 1, 3\)"),
    ({"observation.gripper": torch.zeros(3, 2, 1)}, "gripper: expected 4 rows, as observation.state has, found 3"),
    (
        {"observation.state": torch.zeros(0, 2, 3), "observation.gripper": torch.zeros(0, 2, 1)},
        "observation.state: expected at least one row, found none",
    ),
    ({"observation.state": ["up"] * 4}, r"observation\.state: expected numbers, found list"),
    (
        {"observation.state": torch.zeros(4, 2, 3, dtype=torch.complex64)},
        r"expected real numbers, found torch\.complex64",
    ),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str) -> None:
    policy = make("bc")
    obs = {"observation.state": torch.zeros(4, 2, 3), "observation.gripper": torch.zeros(4, 2, 1), **change}
    with pytest.raises(ObservationError, match=words):
        policy.act({name: value for name, value in obs.items() if value is not None}, rng=seeded(0))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (["push"], "task: expected 4 rows, as observation.image has, found 1"),
        (["push"] * 5, "task: expected 4 rows"),
        (5, "task: expected a list of strings, one for each row, found int"),
        (None, "task: expected a list of strings, one for each row, found NoneType"),
    ],
)
def test_every_row_has_an_instruction(task: Any, words: str) -> None:
    policy = make("bc-z")
    obs = {**shown(policy.inputs, 4, policy.n_obs_steps), TASK: task}
    with pytest.raises(ObservationError, match=words):
        policy.act(obs, rng=seeded(0))


def test_only_what_is_read_must_be_fit_to_read() -> None:
    policy = make("bc")
    own = seen(**{"observation.temperature": np.array([np.nan]), "task": "close it"})
    controller = control.Receding(policy, seeded(0), n_action_steps=1)
    assert np.isfinite(controller.step(own)).all()
    # Nor need it be there at every tick.
    assert np.isfinite(controller.step(seen(**{"observation.more": np.zeros(2)}))).all()


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"observation.state": np.zeros(2)}, r"observation\.state: expected shape .*found .*tick"),
        ({"observation.state": np.array(["a", "b", "c"])}, r"observation\.state: expected numbers, found <U1.*tick 1"),
        ({"observation.state": np.array([None] * 3)}, r"observation\.state: expected numbers, found object.*tick 1"),
        ({"observation.gripper": None}, r"observation\.gripper: expected numbers, found object.*tick 1"),
    ],
)
def test_what_changes_between_ticks_is_named(second: dict[str, Any], words: str) -> None:
    policy = make("bc")
    policy.timing = replace(policy.timing, n_action_steps=1)
    controller = control.Receding(policy, seeded(0))
    controller.step(seen())
    with pytest.raises(ValueError, match=words):
        controller.step(seen(**second))
