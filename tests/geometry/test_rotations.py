"""Rotations in every kind of numbers, there and back, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as Scipy

from nextmove.contracts import normal, seeded, uniform
from nextmove.geometry import KINDS, to_matrix, to_numbers

MANY = 100_000
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}


def vectors(angles: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Axis times angle, axes at random."""
    return torch.nn.functional.normalize(normal((len(angles), 3), seeded(seed)).double(), dim=-1) * angles[:, None]


def angles(where: str) -> torch.Tensor:
    drawn = uniform((MANY,), seeded(2)).double()
    if where == "anywhere":
        return drawn * torch.pi
    # Down to where float64 knows nothing smaller, zero itself included.
    tiny = 10 ** (-16 * drawn) * (drawn < 0.999)
    return tiny if where == "near 0" else torch.pi - tiny.clamp_max(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("where", ["anywhere", "near 0", "near pi"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_rotations_come_back(kind: str, where: str, dtype: torch.dtype) -> None:
    vector = vectors(angles(where))
    matrix = torch.from_numpy(Scipy.from_rotvec(vector.numpy()).as_matrix())
    numbers = to_numbers(matrix.to(dtype), kind)  # type: ignore[arg-type]
    assert numbers.shape == (MANY, KINDS[kind])
    assert numbers.isfinite().all()
    again = to_matrix(numbers, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(again.double(), matrix, rtol=0, atol=CLOSE[dtype])
    if where != "near pi":
        torch.testing.assert_close(to_numbers(again, kind), numbers, rtol=0, atol=CLOSE[dtype])  # type: ignore[arg-type]
    # A rotation, whatever was rounded: determinant 1 and rows of length 1 at right angles.
    torch.testing.assert_close(again @ again.mT, torch.eye(3, dtype=dtype).expand_as(again), rtol=0, atol=CLOSE[dtype])


@pytest.mark.parametrize("where", ["anywhere", "near 0", "near pi"])
def test_scipys_numbers_are_ours(where: str) -> None:
    vector = vectors(angles(where))
    theirs = Scipy.from_rotvec(vector.numpy())
    quaternion = torch.from_numpy(theirs.as_quat(canonical=True))
    matrix = torch.from_numpy(theirs.as_matrix())
    torch.testing.assert_close(to_matrix(vector, "axis_angle"), matrix, rtol=0, atol=1e-14)
    torch.testing.assert_close(to_matrix(quaternion, "quaternion_xyzw"), matrix, rtol=0, atol=1e-14)
    torch.testing.assert_close(to_matrix(quaternion.roll(1, -1), "quaternion_wxyz"), matrix, rtol=0, atol=1e-14)
    if where == "near 0":
        small = to_numbers(to_matrix(vector, "axis_angle"), "axis_angle")
        torch.testing.assert_close(small, vector, rtol=1e-12, atol=1e-30)
    # At half a turn both signs are the same rotation; elsewhere the numbers are the same to their last digits.
    apart = (vector.norm(dim=-1) < torch.pi - 1e-6)[:, None]
    for kind, expected in (("axis_angle", vector), ("quaternion_xyzw", quaternion)):
        found = to_numbers(matrix, kind)  # type: ignore[arg-type]
        torch.testing.assert_close(torch.where(apart, found, 0), torch.where(apart, expected, 0), rtol=0, atol=1e-9)


def test_six_numbers_are_columns_or_rows() -> None:
    matrix = torch.from_numpy(Scipy.from_euler("z", 90, degrees=True).as_matrix())
    columns, rows = (to_numbers(matrix, kind).round() for kind in ("6d", "6d_rows"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(columns, [0, 1, 0, -1, 0, 0])
    np.testing.assert_array_equal(rows, [0, -1, 0, 1, 0, 0])


def test_numbers_that_are_no_rotation_give_one_beside_them() -> None:
    """What a network answers: quaternions of any length, 6-D numbers neither long nor at right angles."""
    matrix = torch.from_numpy(Scipy.from_rotvec(vectors(angles("anywhere")).numpy()).as_matrix())
    quaternion = -3 * to_numbers(matrix, "quaternion_xyzw")
    torch.testing.assert_close(to_matrix(quaternion, "quaternion_xyzw"), matrix, rtol=0, atol=1e-12)
    six = to_numbers(matrix, "6d")
    skewed = torch.cat([2 * six[:, :3], 5 * six[:, 3:] + 3 * six[:, :3]], -1)
    torch.testing.assert_close(to_matrix(skewed, "6d"), matrix, rtol=0, atol=1e-12)
    nothing = to_matrix(torch.zeros(1, 4), "quaternion_wxyz")
    torch.testing.assert_close(nothing, torch.eye(3)[None])
    with pytest.raises(ValueError, match="expected the 4 numbers of quaternion_wxyz, found 3"):
        to_matrix(torch.zeros(1, 3), "quaternion_wxyz")
