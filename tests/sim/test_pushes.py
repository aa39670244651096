"""A thousand worlds in one space behave as each would alone."""

import numpy as np
import pytest

from nextmove.sim import _tee
from nextmove.sim._pushes import Pushes, contacts, fan

pymunk = pytest.importorskip("pymunk")

POSE = np.array([240.0, 300.0, 2.2])


def alone(pose, start, direction, stride, length):
    """The plain way: one T, one pusher, one space; costs after every substep."""
    space = pymunk.Space()
    space.damping = 0.0
    for a, b in (((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506))):
        space.add(pymunk.Segment(space.static_body, a, b, 2))
    tee = pymunk.Body(1, 3000)
    tee.center_of_gravity = (0, 45)
    bar = pymunk.Poly(tee, [(-60, 30), (60, 30), (60, 0), (-60, 0)])
    stem = pymunk.Poly(tee, [(-15, 30), (-15, 120), (15, 120), (15, 30)])
    pusher = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    space.add(tee, bar, stem, pusher, pymunk.Circle(pusher, 15))
    tee.angle = pose[2]
    tee.position = tuple(pose[:2])
    pusher.position = tuple(start)
    pusher.velocity = tuple(direction * stride / 0.01)
    costs = []
    for _ in range(round(length / stride)):
        space.step(0.01)
        costs.append(float(_tee.pose_cost(np.array([*tee.position, tee.angle]))))
    return costs


def every_push():
    points, normals, _ = contacts()
    inward = fan(normals)
    starts = (points + normals * 15.2).repeat(inward.shape[1], 0)
    turn = np.array([0.0, 0.0, POSE[2]])
    return _tee.to_world(starts, POSE), _tee.to_world(inward.reshape(-1, 2), turn)


def test_contacts_fit_and_point_inwards():
    points, normals, edges = contacts()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert set(edges) == set(range(8))
    assert (_tee.outline_distance(points + normals * 15.2) >= 15).all()
    inward = fan(normals)
    assert (np.einsum("mki,mi->mk", inward, -normals) >= np.cos(np.pi / 6) - 1e-9).all()


@pytest.mark.parametrize("stride", [2.0, 0.4])
def test_many_pushes_equal_each_alone(stride):
    starts, directions = every_push()
    pushes = Pushes(len(starts))
    pushes.run(POSE + np.array([9, -20, 1]), starts, directions, stride=2, length=40, patience=9)  # leaves no trace
    best, moved = pushes.run(POSE, starts, directions, stride=stride, length=24, patience=100)
    assert (moved > 0).sum() > 20
    for i in range(0, len(starts), 17):
        costs = alone(POSE, starts[i], directions[i], stride, 24)
        assert best[i] == pytest.approx(min([*costs, float(_tee.pose_cost(POSE))]), abs=2e-3)
        if moved[i]:
            assert costs[round(moved[i] / stride) - 1] == pytest.approx(best[i], abs=1e-6)


def test_impatience_only_shortens():
    starts, directions = every_push()
    pushes = Pushes(len(starts))
    patient, _ = pushes.run(POSE, starts, directions, stride=2, length=110, patience=100)
    impatient, moved = pushes.run(POSE, starts, directions, stride=2, length=110, patience=4)
    assert (impatient >= patient - 1e-6).all()
    assert moved.max() <= 110
    with pytest.raises(ValueError, match="at most"):
        Pushes(3).run(POSE, starts, directions, stride=2, length=10, patience=4)
