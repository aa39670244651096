"""MuJoCo's images: what they show, how they are drawn, and what is said where no OpenGL is to be had."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from nextmove.sim import SimulatorError, mujoco_gl
from nextmove.sim.base import Cloud
from nextmove.sim.missing import missing
from nextmove.sim.mujoco_render import Views

SCENE = """
<mujoco>
  <asset>
    <texture name="chequered" type="2d" builtin="checker" rgb1="0 1 0" rgb2="0 .6 0" width="32" height="32"/>
    <material name="tiles" texture="chequered" reflectance=".3"/>
  </asset>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="above" pos="0 0 1" fovy="60"/>
    <camera name="side" pos="2 0 0.5" xyaxes="0 1 0 0 0 1"/>
    <geom name="floor" type="plane" size="2 2 .1" material="tiles"/>
    <geom name="ball" size=".1" pos=".2 .1 .2" rgba="1 0 0 1"/>
    <geom name="shell" group="3" size=".3" pos="0 0 .2" rgba="0 0 1 1"/>
    <geom name="screen" group="1" type="box" size=".05 .05 .01" pos="-.3 -.2 .1" rgba="0 0 1 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def scene():
    if not (mujoco_gl._egl() or mujoco_gl._osmesa()):
        pytest.skip("needs EGL or OSMesa")
    mujoco_gl.prepare()
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture
def views(scene):
    made = Views(*scene)
    yield made
    made.close()


def test_pixels_lie_where_intrinsics_and_pose_say(views):
    colours, metres = views.rgbd("above", (120, 160))
    assert colours.shape == (120, 160, 3)
    assert colours.dtype == np.uint8
    assert metres.dtype == np.float32
    red = (colours[..., 0] > 100) & (colours[..., 1] < 60)
    rows, columns = np.nonzero(red)
    seen = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(views.intrinsics("above", (120, 160))).T
    pose = views.pose("above")
    world = seen * metres[red][:, None] @ pose[:3, :3].T + pose[:3, 3]
    assert np.linalg.norm(world - [0.2, 0.1, 0.2], axis=1) == pytest.approx(0.1, abs=2e-3)
    assert metres[60, 80] == pytest.approx(1, abs=1e-5), "the floor, straight below"


def test_depth_is_drawn_alone_or_with_the_image(views):
    colours, metres = views.rgbd("side", (48, 64))
    assert np.array_equal(colours, views.rgb("side", (48, 64)))
    assert np.array_equal(metres, views.depth("side", (48, 64)))
    assert np.array_equal(colours, views.rgb("side", (48, 64))), "with its light and textures again"
    assert colours[-1].mean(0) == pytest.approx([0, 150, 0], abs=60), "the floor is in the last row"


def test_points_follow_a_camera_that_moves(scene):
    import mujoco

    model, data = scene
    cloud, made = Cloud("above", (48, 64), (0, 0, 0.12), (1, 1, 1)), Views(model, data)
    try:
        before = made.points(cloud, 32)
        assert np.array_equal(made.points(cloud, 32), before)
        model.cam_pos[0] += [0.1, 0.05, 0]
        mujoco.mj_forward(model, data)
        for points in (before, made.points(cloud, 32)):
            assert np.linalg.norm(points - [0.2, 0.1, 0.2], axis=1) == pytest.approx(0.1, abs=2e-3), "on the ball"
        assert not np.array_equal(made.points(cloud, 32), before)
    finally:
        model.cam_pos[0] -= [0.1, 0.05, 0]
        mujoco.mj_forward(model, data)
        made.close()


def test_sizes_do_not_depend_on_what_was_drawn_before(views, scene):
    large = views.rgb("above", (700, 900))
    small = views.rgb("above", (40, 30))
    assert large.shape == (700, 900, 3)
    other = Views(*scene)
    assert np.array_equal(other.rgb("above", (40, 30)), small)
    assert np.array_equal(other.rgb("above", (700, 900)), large)
    other.close()
    assert np.array_equal(other.rgb("above", (40, 30)), small), "closed views open again"
    other.close()


def test_shadows_and_multisampling_are_off(views, scene):
    views.rgb("above", (8, 8))
    import mujoco

    assert scene[0].vis.quality.offsamples == 0
    assert views._opened._context.offSamples == 0
    assert not views._opened._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW]


def test_hidden_groups_are_not_drawn(views, scene):
    without = Views(*scene, hidden=(1,))
    for drawn, shown in ((views, True), (without, False)):
        colours = drawn.rgb("above", (60, 60))
        assert bool(((colours[..., 2] > 80) & (colours[..., 1] < 40)).any()) == shown
    without.close()


def test_an_unknown_camera_is_named_with_those_there_are(views):
    with pytest.raises(SimulatorError, match=r"expected one of the scene's \(above, side\), found 'abov'.*above"):
        views.rgb("abov", (8, 8))


def test_a_process_that_did_not_close_ends_without_a_word(scene):
    code = (
        "import sys, tempfile; kept = tempfile.TemporaryDirectory();"
        "from nextmove.sim.mujoco_render import Views, prepare; prepare(); import mujoco;"
        "model = mujoco.MjModel.from_xml_string(sys.argv[1]); data = mujoco.MjData(model);"
        "mujoco.mj_forward(model, data); views = Views(model, data); print(views.rgb('above', (8, 8)).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", code, SCENE], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(8, 8, 3)\n", "")


HIDING = """
import ctypes, os, sys
class Hidden(ctypes.CDLL):
    def __init__(self, name, *more, **named):
        if any(hidden in str(name) for hidden in {hidden}):
            raise OSError(f"{{name}}: cannot open shared object file")
        super().__init__(name, *more, **named)
ctypes.CDLL, ctypes.cdll = Hidden, ctypes.LibraryLoader(Hidden)
from nextmove.sim.base import SimulatorError
from nextmove.sim.mujoco_render import Views, prepare
try:
    print("chose", prepare())
    import mujoco
    model = mujoco.MjModel.from_xml_string(sys.argv[1])
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    print("stepped")
    Views(model, data).rgb("above", (8, 8))
    print("drew")
except SimulatorError as problem:
    print(problem)
"""
ALL = ("libEGL", "libOSMesa", "libGL")
APT = "apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"


@pytest.mark.parametrize(
    ("choice", "hidden", "expected"),
    [
        (None, ALL, ["chose ", "stepped", "neither EGL nor OSMesa is there, nor a display", f"{APT} (or libosmesa6"]),
        ("glfw", ALL, ["chose glfw", "stepped", "MUJOCO_GL=glfw needs a display", APT, "unset MUJOCO_GL"]),
        ("egl", ALL, ["MUJOCO_GL=egl, and EGL is not there", APT]),
        ("osmesa", ALL, ["MUJOCO_GL=osmesa, and OSMesa is not there", "apt-get install libosmesa6 libgl1"]),
        ("off", (), ["chose off", "stepped", "MUJOCO_GL=off (rendering is switched off)"]),
        ("elg", (), ["MUJOCO_GL: expected egl, osmesa or glfw, or unset, found 'elg'"]),
    ],
)
def test_what_is_missing_is_one_sentence_and_states_need_nothing(choice, hidden, expected):
    pytest.importorskip("mujoco", reason="needs mujoco")
    removed = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    if choice is not None:
        environment["MUJOCO_GL"] = choice
    code = HIDING.format(hidden=hidden)
    ran = subprocess.run([sys.executable, "-c", code, SCENE], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) <= 3
    for part in expected:
        assert part in ran.stdout


def test_a_process_that_closes_nothing_ends_in_silence(scene):
    code = """
import sys, weakref
early = weakref.finalize(sys, int)  # so that what is finalized at exit comes after what MuJoCo has registered
from nextmove.sim.mujoco_render import Views, prepare
prepare()
import mujoco
model = mujoco.MjModel.from_xml_string(sys.argv[1])
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
views = Views(model, data)
views.rgb("above", (8, 8))
"""
    ran = subprocess.run([sys.executable, "-c", code, SCENE], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_osmesa_is_next_where_egl_is_not(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(mujoco_gl, "_WORKS", {"egl": lambda: False, "osmesa": lambda: True})
    assert mujoco_gl.prepare() == "osmesa" == os.environ["MUJOCO_GL"]


def test_an_opencv_without_libgl_is_told_from_a_missing_package():
    problem = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    said = str(missing("pusht", "gym-pusht", problem, "pip install gym-pusht"))
    assert "apt-get install libgl1, or `pip install opencv-python-headless` in its place" in said
    said = str(missing("pusht", "gym-pusht", ImportError("No module named 'gym_pusht'"), "pip install gym-pusht"))
    assert said == "pusht: needs gym-pusht (No module named 'gym_pusht'); pip install gym-pusht"
