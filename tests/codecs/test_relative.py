"""What actions are relative to: there and back, by name, in steps, and in poses."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as Scipy

from nextmove.codecs import Actions, Scaled
from nextmove.codecs.poses import Pose
from nextmove.codecs.relative import Relative
from nextmove.contracts import Known, normal, seeded
from nextmove.geometry import KINDS, to_matrix, to_numbers

B, T, H = 7, 2, 6
STATE = "observation.state"
SPACES = ("absolute", "relative", "deltas")


def poses(count: int, kind: str, seed: int) -> torch.Tensor:
    """(count, 3 + W + 1): a position, a rotation in float64 and a gripper."""
    place = normal((count, 3), seeded(seed, 1)).double()
    turn = to_numbers(to_matrix(normal((count, 4), seeded(seed, 2)).double(), "quaternion_xyzw"), kind)  # type: ignore[arg-type]
    return torch.cat([place, turn, normal((count, 1), seeded(seed, 3)).double()], -1)


def arm(kind: str, shown: str, space: str, now: int = 0) -> tuple[Relative, torch.Tensor, dict[str, torch.Tensor]]:
    """A pose and a gripper that stays absolute; the state has them in another order, behind two numbers more."""
    wide = KINDS[kind]
    pose = Pose(kind, rotation=3, position=0, shown=shown)  # type: ignore[arg-type]
    columns = (*range(3, 3 + wide + 3), -1)
    relative = Relative(wide + 4, space, STATE, columns, now=now, poses=(pose,))  # type: ignore[arg-type]
    action = poses(B * H, kind, 1).reshape(B, H, -1)
    state = torch.cat([normal((B, T, 3), seeded(9)).double(), poses(B * T, kind, 2).reshape(B, T, -1)], -1)
    return relative, action, {STATE: state}


@pytest.mark.parametrize(("kind", "shown"), list(product(KINDS, KINDS)))
@pytest.mark.parametrize("space", SPACES)
def test_poses_come_back(space: str, kind: str, shown: str) -> None:
    for now in (0, 2):
        relative, action, obs = arm(kind, shown, space, now)
        x = relative.apply(action, obs)
        assert x.shape == (B, H, relative.made) == (B, H, KINDS[shown] + 4)
        torch.testing.assert_close(relative.undo(x, obs), action, rtol=0, atol=1e-12)
        torch.testing.assert_close(x[..., -1], action[..., -1], rtol=0, atol=0)
        assert relative.size(action, obs).shape in ((), (relative.made,))


def transform(pose: torch.Tensor) -> np.ndarray:
    """Of position and x, y, z, w, as a 4 x 4 matrix by SciPy."""
    made = np.eye(4)
    made[:3, 3], made[:3, :3] = pose[:3], Scipy.from_quat(pose[3:7].numpy()).as_matrix()
    return made


@pytest.mark.parametrize("now", [0, 2])
def test_differences_of_poses_are_those_of_rigid_motions(now: int) -> None:
    relative, action, obs = arm("quaternion_xyzw", "6d", "relative", now)
    deltas = arm("quaternion_xyzw", "6d", "deltas", now)[0]
    x, steps = relative.apply(action, obs), deltas.apply(action, obs)
    for b in range(B):
        own = transform(obs[STATE][b, -1, 3:])
        path = [transform(action[b, h]) for h in range(H)]
        for h in range(H):
            before = own if h == now else path[h - 1] if h > now else path[h + 1]
            for found, origin in ((x, own), (steps, before)):
                motion = np.linalg.inv(origin) @ path[h]
                np.testing.assert_allclose(found[b, h, :3], motion[:3, 3], atol=1e-12)
                np.testing.assert_allclose(found[b, h, 3:9], motion[:3, :2].T.ravel(), atol=1e-12)


def test_a_moved_and_turned_robot_sees_the_same_relative_poses() -> None:
    relative, action, obs = arm("quaternion_wxyz", "axis_angle", "relative")
    turn = to_matrix(torch.tensor([0.3, -0.2, 0.5, 0.8]).double(), "quaternion_xyzw")
    place = torch.tensor([5.0, -2.0, 3.0]).double()

    def elsewhere(x: torch.Tensor) -> torch.Tensor:
        quaternion = to_numbers(turn @ to_matrix(x[..., 3:7], "quaternion_wxyz"), "quaternion_wxyz")
        return torch.cat([x[..., :3] @ turn.mT + place, quaternion, x[..., 7:]], -1)

    moved = {STATE: torch.cat([obs[STATE][..., :3], elsewhere(obs[STATE][..., 3:])], -1)}
    found = relative.apply(elsewhere(action), moved)
    torch.testing.assert_close(found, relative.apply(action, obs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("now", [0, 3, H - 1])
def test_deltas_are_steps_from_the_present_state_on(now: int) -> None:
    action, obs = normal((B, H, 3), seeded(1)), {STATE: normal((B, T, 3), seeded(2))}
    relative = Relative(3, "deltas", now=now, columns=(0, -1, 2))
    x = relative.apply(action, obs)
    moves = [0, 2]
    torch.testing.assert_close(x[:, now, moves], (action[:, now] - obs[STATE][:, -1])[:, moves])
    torch.testing.assert_close(x[:, now + 1 :, moves], (action[:, now + 1 :] - action[:, now:-1])[..., moves])
    torch.testing.assert_close(x[:, :now, moves], (action[:, :now] - action[:, 1 : now + 1])[..., moves])
    torch.testing.assert_close(x[..., 1], action[..., 1], rtol=0, atol=0)
    torch.testing.assert_close(relative.undo(x, obs), action)


def test_what_is_kept_is_not_touched_by_the_state() -> None:
    action, obs = normal((B, H, 3), seeded(1)), {STATE: 1e6 * normal((B, T, 3), seeded(2))}
    relative = Relative(3, "relative", columns=(-1, 0, 1))
    x = relative.apply(action, obs)
    torch.testing.assert_close(x[..., 0], action[..., 0], rtol=0, atol=0)
    torch.testing.assert_close(x[..., 1:], action[..., 1:] - obs[STATE][:, -1:, :2])
    torch.testing.assert_close(relative.undo(x, obs)[..., 0], action[..., 0], rtol=0, atol=0)
    size = relative.size(action, obs)
    assert size[0] == 0
    assert (size[1:] > 1e5).all()


@pytest.mark.parametrize("space", SPACES)
def test_a_known_beginning_is_kept_in_every_space(space: str) -> None:
    """Rows that are known wholly are known in model space too: decoding them gives the actions, whatever follows."""
    relative, action, obs = arm("quaternion_xyzw", "6d", space, now=1)
    codec = Actions(Scaled(relative.made, mode="identity"), relative)
    weight = torch.ones(B, 3, relative.width).double()
    weight[:, 2, 4] = 0
    known = codec.known(Known(action[:, 1:4], weight), obs, first=1, horizon=H)
    assert known.weight[:, 1:3].all()
    assert not known.weight[:, 0].any()
    assert not known.weight[:, 4:].any()
    # A quaternion of which one number is open says nothing of the pose; the gripper is known beside it.
    assert not known.weight[:, 3, :-1].any()
    assert known.weight[:, 3, -1].all()
    x = torch.where(known.weight > 0, known.value, normal(known.value.shape, seeded(5)).double())
    decoded = codec.decode(x, obs)
    torch.testing.assert_close(decoded[:, 1:3], action[:, 1:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(decoded[:, 3, -1], action[:, 3, -1], rtol=0, atol=0)


def test_statistics_are_those_of_the_space() -> None:
    relative, action, obs = arm("axis_angle", "6d", "deltas")
    codec = Actions(Scaled(H * relative.made), relative, per_step=True, mask_padding=True, pad=4)
    action, obs = action.float(), {STATE: obs[STATE].float()}
    codec.scale.fit(codec.values(action, obs).numpy(), size=codec.size(action, obs).numpy())
    x = codec.encode(action, obs)
    assert x.shape == (B, H, relative.made + 4)
    torch.testing.assert_close(x[..., :-4].mean(0), torch.zeros(H, relative.made), rtol=0, atol=1e-5)
    torch.testing.assert_close(x[..., :-4].std(0, correction=0), torch.ones(H, relative.made), rtol=1e-4, atol=0)
    torch.testing.assert_close(codec.decode(x, obs), action, rtol=0, atol=1e-4)
    counted = codec.weight(torch.zeros(B, H, dtype=torch.bool))
    assert counted is not None
    assert counted.sum(-1).eq(relative.made).all()


def test_errors_name_the_columns() -> None:
    narrow = Relative(2, "relative", columns=(0, 5))
    with pytest.raises(ValueError, match=r"observation\.state: expected at least 6 numbers, found 3"):
        narrow.apply(torch.zeros(1, 2, 2), {STATE: torch.zeros(1, 1, 3)})
