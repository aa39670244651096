"""Which space actions are generated in by default, what can be chosen, and that it is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nextmove import formats, store
from nextmove.config import encode
from nextmove.contracts import Feature, normal, seeded
from nextmove.decoders import Flow
from nextmove.models.policy import ActionSpace, PolicySpec, Timing
from nextmove.models.policy.act import Act
from nextmove.models.policy.action_tokens import ActionTokens
from nextmove.models.policy.diffusion_policy import DiffusionPolicy, DiffusionTransformer
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.nn import Mlp

ARM = ("shoulder", "elbow", "wrist", "left_Gripper")
STATE = "observation.state"
POSE = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper")
SMALL = FlowPolicy(timing=Timing(horizon=4), decoder=Flow(trunk=Mlp(width=16, depth=1)))


def robot(state: tuple[str, ...] | int = ARM, action: tuple[str, ...] | int = ARM) -> PolicySpec:
    wide = state if isinstance(state, int) else len(state)
    names = () if isinstance(state, int) else state
    inputs = {STATE: Feature("state", (wide,), names)}
    if isinstance(action, int):
        return PolicySpec(inputs, action, 10.0)
    return PolicySpec(inputs, len(action), 10.0, action)


def decided(spec: PolicySpec, **fields: Any) -> ActionSpace:
    return ActionSpace(**fields).resolve(spec, None)


@pytest.mark.parametrize(
    ("state", "action", "space"),
    [
        (ARM, ARM, "relative"),
        (tuple(reversed(ARM)), ARM, "relative"),
        (("base", *ARM[:3]), ARM, "relative"),  # the gripper's place is not needed: it stays absolute
        (ARM[1:], ARM, "absolute"),
        (4, ARM, "absolute"),
        (ARM, 4, "absolute"),
        (4, 4, "absolute"),
        (("a", "b", "c", "d"), ARM, "absolute"),
        (("motor_0", "motor_1"), ("motor_0", "motor_1"), "absolute"),
        (("gripper",), ("gripper",), "absolute"),
    ],
)
def test_relative_is_the_default_where_state_and_action_share_names(state: Any, action: Any, space: str) -> None:
    spec = robot(state, action)
    assert decided(spec).space == space
    assert decided(spec, space="shown").space == "absolute"
    assert decided(spec, space="absolute").space == "absolute"


def test_joints_are_found_by_name_and_the_gripper_stays() -> None:
    spec = robot(("wrist", "base", "elbow", "shoulder"))
    policy = store.create("flow-policy", spec, SMALL)
    action, obs = normal((3, 4, 4), seeded(1)), {STATE: normal((3, 2, 4), seeded(2))}
    x = policy.codec.relative.apply(action, obs)
    now = obs[STATE][:, -1:]
    torch.testing.assert_close(x, action - torch.cat([now[..., [3, 2, 0]], 0 * now[..., :1]], -1))
    assert policy.codec.space == "relative to observation.state"


def test_a_state_may_hold_more_behind_the_joints() -> None:
    policy = store.create("flow-policy", robot((*ARM, "force"), ARM[:3]), SMALL)
    action, obs = normal((3, 4, 3), seeded(1)), {STATE: normal((3, 2, 5), seeded(2))}
    x = policy.codec.relative.apply(action, obs)
    torch.testing.assert_close(x, action - obs[STATE][:, -1:, :3])
    torch.testing.assert_close(policy.codec.relative.undo(x, obs), action)


def test_what_is_kept_is_said_by_name_or_number() -> None:
    for keep, columns in ((("3", "elb"), (0, -1, 2, -1)), ((), ()), (("0",), (-1, 1, 2, 3))):
        policy = store.create("flow-policy", robot(), replace(SMALL, actions=ActionSpace(keep=keep)))
        assert policy.codec.relative.columns == columns
    with pytest.raises(ValueError, match=r"actions\.keep: expected dimensions 0 to 3, found 4"):
        decided(robot(), keep=("4",))


def test_a_reference_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"actions\.reference: expected a state, found 'observation\.stat' and obser"):
        decided(robot(), reference="observation.stat")


def test_published_sizes_keep_the_papers_actions() -> None:
    for recipe in (Act.published(), DiffusionPolicy.published(), DiffusionTransformer.published()):
        assert recipe.actions.resolve(robot(), None).space == "absolute"
    for recipe in (Act(), DiffusionPolicy(), FlowPolicy(), ActionTokens()):
        assert recipe.actions.resolve(robot(), None).space == "relative"


@pytest.mark.parametrize("kind", ["6d", "quaternion_wxyz", "quaternion_xyzw", "axis_angle"])
@pytest.mark.parametrize("space", ["absolute", "relative", "deltas"])
def test_a_saved_policy_acts_in_the_space_it_was_trained_in(tmp_path: Path, space: Any, kind: Any) -> None:
    wide = {"6d": 6, "axis_angle": 3}.get(kind, 4)
    names = ("x", "y", "z", *(f"r{i}" for i in range(wide)), "gripper")
    actions = ActionSpace(space=space, rotation=kind, rotation_at=(3,), position_at=(0,))
    policy = store.create("flow-policy", robot(names, names), replace(SMALL, actions=actions))
    obs = {STATE: normal((9, 2, wide + 4), seeded(2))}
    policy.fit([{"action": normal((9, 4, wide + 4), seeded(1)), **obs}])
    store.save(policy, tmp_path / "model")
    again = store.load(tmp_path / "model")
    assert encode(again.card) == encode(policy.card)
    planned = policy.eval().act(obs, rng=seeded(3)).actions
    assert planned.shape == (9, 4, wide + 4)
    torch.testing.assert_close(again.act(obs, rng=seeded(3)).actions, planned)


def test_tokens_of_poses() -> None:
    actions = ActionSpace(scaling="min_max", bins=256, rotation="quaternion_xyzw", rotation_at=(3,), position_at=(0,))
    policy = store.create("action-tokens", robot(POSE, POSE), replace(ActionTokens(), actions=actions))
    assert policy.shape == (16 * 10,)


def test_the_card_names_what_was_decided_and_old_files_mean_what_they_meant() -> None:
    card = store.create("flow-policy", robot(), SMALL).card
    assert (card.recipe.actions.space, card.recipe.actions.frame) == ("relative", "world")
    config = {"format": 3, "system": "flow-policy", "recipe": encode(card.recipe), "spec": encode(card.spec)}
    assert formats.up_to_date(config) == config
    old = encode(SMALL)
    del old["actions"]["keep"]
    found = formats.up_to_date({**config, "recipe": old})["recipe"]["actions"]
    assert (found["space"], found["keep"]) == ("shown", [])
    old["actions"]["space"] = "relative"
    found = formats.up_to_date({**config, "recipe": old})["recipe"]["actions"]
    assert (found["space"], found["keep"]) == ("relative", [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": "deltas", "reference": "observation.pose"}, r"actions\.reference: expected a state as wide .* 8"),
        ({"rotation": "6d"}, r"actions\.rotation: expected a kind and the first dimension of each rotation"),
        ({"rotation_at": (3,)}, r"actions\.rotation: expected a kind"),
        ({"rotation": "6d", "rotation_at": (3,)}, r"actions\.rotation_at: expected dimensions apart and below 8"),
        (
            {"rotation": "axis_angle", "rotation_at": (3,), "position_at": (2,)},
            r"actions\.rotation_at: expected dimensions apart",
        ),
        (
            {"rotation": "axis_angle", "rotation_at": (3,), "position_at": (0, 4)},
            r"actions\.position_at: expected none or one for each rotation, 1",
        ),
        (
            {"rotation": "axis_angle", "rotation_at": (5,), "space": "relative"},
            r"actions\.keep: expected no dimension of a rotation or its position, found 7",
        ),
        ({"width": 9, "rotation": "axis_angle", "rotation_at": (3,)}, r"actions\.width: expected at least .* 11"),
    ],
)
def test_errors_name_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decided(robot(POSE, POSE), **fields)
