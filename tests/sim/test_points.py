"""Points from depth lie where the scene is, and so many of them are chosen evenly, the same everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nextmove
from nextmove.sim import SimulatorError
from nextmove.sim.base import Cloud
from nextmove.sim.points import Eye, Rays, farthest, unproject, workspace

HEIGHT, WIDTH = 30, 40
BOX = Cloud("above", (HEIGHT, WIDTH), (-1, -1, 0.01), (1, 1, 1), plane=0.25)
DOWN = np.array([[1.0, 0, 0, 0.3], [0, -1, 0, -0.2], [0, 0, -1, 2], [0, 0, 0, 1]])
"""A camera two metres up that looks straight down, right along x."""
INTRINSICS = np.array([[50, 0, (WIDTH - 1) / 2], [0, 50, (HEIGHT - 1) / 2], [0, 0, 1.0]])
EYE = Eye(INTRINSICS, DOWN)


def seen(points):
    """Column, row and depth of points of the world in that camera."""
    camera = (np.concatenate([points, np.ones((len(points), 1))], 1) @ np.linalg.inv(DOWN).T)[:, :3]
    pixels = camera @ INTRINSICS.T
    return np.concatenate([pixels[:, :2] / pixels[:, 2:], camera[:, 2:]], 1)


def test_every_pixel_is_where_the_camera_would_see_it():
    depth = np.random.default_rng(0).uniform(0.5, 3, (HEIGHT, WIDTH)).astype(np.float32)
    points = unproject(depth, EYE)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    assert points.dtype == np.float32
    assert seen(points) == pytest.approx(np.stack([columns.ravel(), rows.ravel(), depth.ravel()], 1), abs=1e-4)


def test_the_workspace_is_between_its_corners_and_off_the_table():
    inside = [[0, 0, 0.5], [1, -1, 0.01], [0, 0, 0.2535], [0, 0, 0.2465]]
    outside = [[0, 0, 0.005], [1.01, 0, 0.5], [0, -1.01, 0.5], [0, 0, 1.01], [0, 0, 0.25], [0.4, 0.4, 0.2525]]
    points = np.array([*inside, *outside], np.float32)
    assert workspace(points, BOX).tolist() == np.array(inside, np.float32).tolist()


@pytest.mark.parametrize("tilt", [0.0, 0.4, -0.6])
def test_pixels_that_are_left_out_early_are_none_of_the_workspace(tilt):
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    pose = DOWN.copy()
    pose[:3, :3] = turn @ DOWN[:3, :3]
    eye = Eye(INTRINSICS, pose)
    rays, rng = Rays(eye, BOX), np.random.default_rng(4)
    found = []
    for _ in range(20):
        depth = rng.uniform(0.1, 4, (HEIGHT, WIDTH)).astype(np.float32)
        exact = workspace(unproject(depth, eye), BOX)
        assert np.array_equal(rays.workspace(depth), exact)
        found.append(len(exact))
    assert 0 < np.mean(found) < HEIGHT * WIDTH


def test_each_point_is_the_farthest_from_those_before():
    points = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    chosen = farthest(points, 40)
    assert len(set(chosen.tolist())) == 40
    exact = points.astype(np.float64)
    assert chosen[0] == np.linalg.norm(exact - exact.mean(0), axis=1).argmax()
    for number in range(1, 40):
        away = np.linalg.norm(exact[:, None] - exact[chosen[:number]], axis=2).min(1)
        assert away[chosen[number]] == pytest.approx(away.max(), rel=1e-5)


def test_of_too_few_points_all_are_taken_again():
    points = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    chosen = farthest(points, 12)
    assert sorted(chosen[:5]) == [0, 1, 2, 3, 4]
    assert chosen[5:].tolist() == [*chosen[:5], *chosen[:2]]


def test_of_points_at_one_distance_the_first_is_taken():
    points = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], np.float32)
    assert farthest(points, 5).tolist() == [1, 2, 3, 4, 0]


def test_choices_are_those_of_a_plain_restatement_to_the_bit():
    points = np.random.default_rng(5).integers(0, 9, (700, 3)).astype(np.float32) / 7
    nearest = ((points - points.astype(np.float64).mean(0).astype(np.float32)) ** 2)[:, [0, 1, 2]]
    chosen = [int((nearest[:, 0] + nearest[:, 1] + nearest[:, 2]).argmax())]
    away = np.full(len(points), np.inf, np.float32)
    while len(chosen) < 300:
        apart = (points - points[chosen[-1]]) ** 2
        away = np.minimum(away, apart[:, 0] + apart[:, 1] + apart[:, 2])
        chosen.append(int(away.argmax()))
    assert farthest(points, 300).tolist() == chosen, "with many of them at one distance"


def test_points_are_chosen_where_nothing_that_is_compiled_can_be_kept(tmp_path):
    pytest.importorskip("numba", reason="needs numba")
    for room in ("sim", "host"):
        (tmp_path / "nextmove" / room).mkdir(parents=True)
        (tmp_path / "nextmove" / room / "__pycache__").write_text("no folder")
    for name in ("__init__.py", "sim/__init__.py", "host/__init__.py"):
        (tmp_path / "nextmove" / name).touch()
    for name in ("sim/_farthest.py", "host/compiled.py"):
        shutil.copy(Path(nextmove.__file__).parent / name, tmp_path / "nextmove" / name)
    code = "import numpy as np; from nextmove.sim._farthest import spread; a = np.arange(3, dtype=np.float32);"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), os.devnull)
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code + "print(spread(a, a, a, 0, 2))"], cwd=tmp_path, capture_output=True,
        text=True, env={**kept, **nowhere, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "[0 2]\n"), ran.stderr


def test_what_chooses_points_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "nextmove.sim._farthest", None)
    with pytest.raises(SimulatorError, match=r"points: needs numba .*; pip install numba"):
        farthest(np.zeros((5, 3), np.float32), 2)


def test_a_cloud_has_its_number_of_points_of_what_is_above_the_table():
    depth = np.full((HEIGHT, WIDTH), 1.75, np.float32)  # the table, at 0.25 m
    depth[10:20, 15:30] = 1.5
    cloud = Rays(EYE, BOX).point_cloud(depth, 64)
    assert (cloud.shape, cloud.dtype) == ((64, 3), np.float32)
    assert cloud[:, 2] == pytest.approx(0.5)
    assert seen(cloud)[:, :2].min(0) == pytest.approx([15, 10], abs=1e-3), "corners are farthest"
    assert seen(cloud)[:, :2].max(0) == pytest.approx([29, 19], abs=1e-3)
    nothing = Rays(EYE, BOX).point_cloud(np.full((HEIGHT, WIDTH), 1.75, np.float32), 64)
    assert nothing.shape == (64, 3)
    assert not nothing.any(), "the table alone"
