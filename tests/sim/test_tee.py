"""Geometry against shapely, and ways that keep their distance."""

import numpy as np
import pytest

from nextmove.sim import _tee

shapely = pytest.importorskip("shapely")

POSES = [np.array(p) for p in ((256, 256, 0.3), (150, 300, 2.5), (380, 170, -1.9), (90, 420, 4.0))]


def test_cost_is_the_mean_distance_of_the_corners():
    goal = _tee.corners(np.array(_tee.GOAL))
    for pose in POSES:
        expected = np.mean([np.hypot(*(a - b)) for a, b in zip(_tee.corners(pose), goal, strict=True)])
        assert _tee.pose_cost(pose) == pytest.approx(expected, abs=1e-9)
    assert _tee.pose_cost(np.array(_tee.GOAL)) == pytest.approx(0, abs=1e-9)
    assert _tee.pose_cost(np.stack(POSES)).shape == (len(POSES),)


def test_body_and_world_are_inverse():
    points = np.random.default_rng(0).uniform(0, 512, (20, 2))
    for pose in POSES:
        assert np.allclose(_tee.to_world(_tee.to_body(points, pose), pose), points)


def test_distances_are_shapelys():
    tee = shapely.LinearRing(_tee.OUTLINE)
    rng = np.random.default_rng(1)
    starts, ends = rng.uniform(-150, 200, (2, 300, 2))
    expected = [tee.distance(shapely.LineString(pair)) for pair in zip(starts, ends, strict=True)]
    assert np.allclose(_tee.clearance(starts, ends), expected, atol=1e-9)
    assert np.allclose(_tee.outline_distance(starts), [tee.distance(shapely.Point(p)) for p in starts], atol=1e-9)


def test_the_offset_outline_is_shapelys_mitred_buffer():
    expected = shapely.Polygon(_tee.OUTLINE).buffer(21, join_style="mitre", mitre_limit=1.5)
    assert shapely.Polygon(_tee.offset(21)).symmetric_difference(expected).area == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("pose", POSES)
def test_ways_keep_clear_of_the_block_and_are_as_long_as_they_say(pose):
    block = shapely.Polygon(_tee.to_world(_tee.OUTLINE, pose))
    rng = np.random.default_rng(2)
    points = rng.uniform(5, 507, (60, 2))
    start, *goals = [p for p in points if block.distance(shapely.Point(p)) > 22]
    ways = _tee.Ways(pose, start)
    lengths = ways.lengths(np.stack(goals))
    reached = 0
    for index, goal in enumerate(goals):
        straight = shapely.LineString([start, goal])
        if not np.isfinite(lengths[index]):
            continue
        reached += 1
        way = ways.way(index)
        line = shapely.LineString(way)
        assert np.allclose(way[[0, -1]], [start, goal])
        assert block.distance(line) >= 20 - 1e-6
        assert line.length == pytest.approx(lengths[index], abs=1e-6)
        assert lengths[index] >= straight.length - 1e-6
        if block.distance(straight) >= 20:
            assert lengths[index] == pytest.approx(straight.length)
    assert reached > len(goals) / 2


def test_a_way_from_the_block_begins_with_a_retreat():
    pose = POSES[0]
    touching = _tee.to_world(np.array([0.0, -15.0]), pose)  # behind the bar
    goal = _tee.to_world(np.array([60.0, 90.0]), pose)  # beside the stem
    ways = _tee.Ways(pose, touching)
    assert np.isfinite(ways.lengths(goal[None])).all()
    way = _tee.to_body(ways.way(0), pose)
    assert np.allclose(way[1], [0, -21])
    assert len(way) > 3


def test_no_way_leads_outside_the_world():
    pose = np.array([256.0, 5 + 2.0, 0.0])  # the bar lies along the upper wall
    left, right = np.array([150.0, 60.0]), np.array([362.0, 60.0])
    ways = _tee.Ways(pose, left)
    ways.lengths(right[None])
    way = ways.way(0)
    assert (way >= 0).all()
    assert way[:, 1].max() > 120, "around the stem, not behind the bar"
