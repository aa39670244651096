"""Grasps are found on surfaces: the narrow side, the rim, never through a neighbour."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nextmove.sim._grasps import best, surface, turned

YAWS = np.deg2rad(np.arange(-90, 91, 15.0))
NOTHING = np.zeros((0, 3))


def box(centre, half, yaw=0.0):
    """The surface of one box."""
    return surface(*scene([(centre, half, yaw)]), {1})


def scene(boxes):
    """As MuJoCo has them: each box a body of the world, and a thin visual box above the first that nothing touches."""
    count = len(boxes) + 1
    model = SimpleNamespace(
        nbody=count,
        body_parentid=np.zeros(count, int),
        geom_bodyid=np.array([*range(1, count), 1]),
        geom_contype=np.array([1] * len(boxes) + [0]),
        geom_conaffinity=np.array([0] * count),
        geom_size=np.array([half for _, half, _ in boxes] + [(1.0, 1.0, 1.0)]),
    )
    data = SimpleNamespace(
        geom_xpos=np.array([centre for centre, _, _ in boxes] + [(0.0, 0.0, 1.0)]),
        geom_xmat=np.array([turned(yaw).reshape(9) for _, _, yaw in boxes] + [np.eye(3).reshape(9)]),
    )
    return model, data


def test_a_surface_is_that_of_what_can_be_touched():
    points = box((0.1, 0.2, 0.3), (0.02, 0.04, 0.01), np.pi / 2)
    assert points.min(0) == pytest.approx([0.06, 0.18, 0.29])
    assert points.max(0) == pytest.approx([0.14, 0.22, 0.31])
    model, data = scene([((0.0, 0, 0), (0.1, 0.1, 0.1), 0.0), ((0.0, 0, 0.5), (0.1, 0.1, 0.1), 0.0)])
    assert surface(model, data, {2}).min(0)[2] == pytest.approx(0.4)
    model.body_parentid[2] = 1
    assert surface(model, data, {1}).max(0)[2] == pytest.approx(0.6), "a part of the body"
    assert surface(model, data, {1, 2} - {2}).min(0)[2] == pytest.approx(-0.1)


@pytest.mark.parametrize("yaw", [0, 30, -45, 90])
def test_the_narrow_side_is_between_the_fingers(yaw):
    found = best(box((0.3, -0.1, 0.02), (0.045, 0.02, 0.02), np.deg2rad(yaw)), NOTHING, YAWS)
    assert found is not None
    assert abs(np.cos(found.yaw - np.deg2rad(yaw))) == pytest.approx(1)
    assert found.point[:2] == pytest.approx([0.3, -0.1], abs=0.003)
    assert 0.011 < found.point[2] < 0.03, "above the table, below the top"


def test_a_bowl_is_taken_by_its_rim():
    walls = [((0.05 * np.cos(a), 0.05 * np.sin(a), 0.03), (0.004, 0.01, 0.03), a) for a in np.arange(0, 2 * np.pi, 0.3)]
    bowl = surface(*scene(walls), set(range(1, len(walls) + 1)))
    found = best(bowl, NOTHING, YAWS)
    assert found is not None
    assert np.linalg.norm(found.point[:2]) == pytest.approx(0.05, abs=0.006)
    across = turned(found.yaw) @ [0, 1, 0]
    assert abs(across[:2] @ found.point[:2]) / np.linalg.norm(found.point[:2]) > 0.98, "one finger inside"
    blocked = best(bowl, box((0, 0.1, 0.05), (0.05, 0.02, 0.05)), YAWS)
    assert blocked is not None
    assert blocked.point[1] < 0.02, "not where something stands beside the rim"


def test_a_neighbour_turns_or_moves_the_gripper():
    flat = box((0, 0, 0.01), (0.04, 0.02, 0.01))
    assert best(flat, NOTHING, YAWS).yaw == pytest.approx(0)
    can = box((0.045, 0.09, 0.04), (0.03, 0.03, 0.04))
    beside = best(flat, can, YAWS)
    assert beside is not None
    frame, point = turned(beside.yaw), beside.point
    palm = np.abs((can - point) @ frame) < [0.032, 0.107, 9.0]
    assert not palm.all(1).any(), "the palm is not over the can"


def test_where_nothing_fits_there_is_none():
    assert best(box((0, 0, 0.05), (0.05, 0.05, 0.05)), NOTHING, YAWS) is None
    thing = box((0, 0, 0.01), (0.01, 0.01, 0.01))
    ring = [box((0.04 * np.cos(a), 0.04 * np.sin(a), 0.03), (0.01, 0.01, 0.03)) for a in np.arange(0, 6.3, 0.3)]
    assert best(thing, np.concatenate(ring), YAWS) is None
