"""What does not count for an image or for points is not drawn, and both are the same."""

from __future__ import annotations

import numpy as np
import pytest

from nextmove.sim import SimulatorError, mujoco_gl
from nextmove.sim.base import Cloud
from nextmove.sim.mujoco_hull import between, seen
from nextmove.sim.mujoco_render import Views
from nextmove.sim.points import Eye, Rays

WORKSPACE = Cloud("above", (96, 96), (-0.2, -0.2, 0.01), (0.2, 0.2, 0.3))
SCENE = """
<mujoco>
  <worldbody>
    <camera name="above" pos="0 0 1" fovy="60"/>
    <geom name="floor" type="plane" size="2 2 .1"/>
    <geom name="inside" size=".05" pos=".1 .1 .1"/>
    <geom name="across" type="capsule" size=".03" fromto="-.4 0 .15 .4 0 .15"/>
    <geom name="over" type="box" size=".05 .05 .01" pos="-.05 -.05 .6"/>
    <geom name="beside" type="box" size=".05 .05 .05" pos=".4 0 .1"/>
    <geom name="beam" type="box" size=".01 .3 .01" pos=".32 0 .1"/>
    <geom name="aside" type="box" size=".1 .1 .1" pos="1.5 .2 .3"/>
    <geom name="under" type="box" size=".1 .1 .02" pos="0 0 -.1"/>
  </worldbody>
</mujoco>
"""
HIDES_NOTHING = {"beside", "beam", "under", "aside"}
"""Of them the bounding sphere of the beam reaches into the workspace, the beam does not."""


@pytest.fixture(scope="module")
def scene():
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture
def drawn():
    if not (mujoco_gl._egl() or mujoco_gl._osmesa()):
        pytest.skip("needs EGL or OSMesa")


def eye_of(views):
    return Eye(views.intrinsics("above", WORKSPACE.size), views.pose("above"))


def test_only_what_lies_between_the_camera_and_the_workspace_counts(scene):
    model, data = scene
    outside = between(eye_of(Views(*scene)), WORKSPACE).outside(model, data)
    assert {model.geom(number).name for number in np.flatnonzero(outside)} == HIDES_NOTHING


def test_a_camera_inside_the_workspace_sees_what_is_there(scene):
    model, data = scene
    eye = eye_of(Views(*scene))
    eye.pose[:3, 3] = [0, 0, 0.2]
    outside = between(eye, WORKSPACE).outside(model, data)
    assert {model.geom(number).name for number in np.flatnonzero(outside)} == HIDES_NOTHING | {"over"}


def test_points_are_those_of_the_whole_scene(scene, drawn):
    views = Views(*scene)
    try:
        whole = Rays(eye_of(views), WORKSPACE).point_cloud(views.depth("above", WORKSPACE.size), 256)
        assert np.array_equal(views.points(WORKSPACE, 256), whole)
        assert np.array_equal(views.points(WORKSPACE, 256), whole), "again, with what was left out before"
        there = {
            shown.objid
            for shown in views._opened._scene.geoms[: views._opened._scene.ngeom]
            if shown.objtype == 5 and shown.type < 100
        }
        assert {scene[0].geom(number).name for number in there}.isdisjoint(HIDES_NOTHING)
        assert np.ptp(views.depth("above", WORKSPACE.size)) > 0.4, "and all of it for an image of depth"
    finally:
        views.close()


def test_an_image_is_the_same_without_what_lies_beside_it(scene, drawn, monkeypatch):
    model, data = scene
    narrow = (24, 40)  # 60 degrees from top to bottom
    views = Views(*scene)
    outside = seen(Eye(views.intrinsics("above", narrow), views.pose("above")), narrow).outside(model, data)
    assert {model.geom(number).name for number in np.flatnonzero(outside)} == {"aside"}
    left = []
    monkeypatch.setattr("nextmove.sim.mujoco_render._Opened._leave_out", lambda opened, region: left.append(region))
    whole = views.rgbd("above", narrow)
    monkeypatch.undo()
    assert np.array_equal(left, [outside])
    for a, b in zip(whole, views.rgbd("above", narrow), strict=True):
        assert np.array_equal(a, b)
    views.close()


@pytest.mark.parametrize("kind", ["sphere", "capsule", "ellipsoid", "cylinder", "box"])
def test_a_geom_that_has_grown_is_drawn(kind, drawn):
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE.replace('name="aside" type="box"', f'name="aside" type="{kind}"'))
    data = mujoco.MjData(model)
    model.geom("aside").pos[:] = [0.9, 0, 0.3]
    model.geom("aside").size[:] = [0.05, 0.05, 0.05]
    mujoco.mj_forward(model, data)
    views = Views(model, data)
    before = views.depth("above", (48, 48))
    model.geom("aside").size[:] = [0.6, 0.6, 0.2]
    grown = views.depth("above", (48, 48))
    assert (before - grown)[:, -10:].max() > 0.05
    views.close()


def test_a_mirror_that_came_later_shows_what_lies_beside_the_image(drawn):
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    mirror = '<mujoco><asset><material name="mirror" reflectance="{}"/></asset>'
    scene = SCENE.replace("<mujoco>", mirror).replace('name="floor"', 'name="floor" material="mirror"')
    seen = []
    for reflectance in (0, 0.9):
        model = mujoco.MjModel.from_xml_string(scene.format(reflectance))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        views = Views(model, data)
        seen.append(views.rgb("above", (48, 48)))
        model.mat_reflectance[:] = 0.9
        seen.append(views.rgb("above", (48, 48)))
        views.close()
    assert not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[1], seen[2])


def test_a_scene_of_many_geoms_is_drawn_whole(drawn):
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    grains = '<geom size=".001" pos="0 0 -1" contype="0" conaffinity="0"/>' * 10_000
    scene = SCENE.replace("</worldbody>", grains + '<geom name="last" size=".1" pos="0 0 .5"/></worldbody>')
    model = mujoco.MjModel.from_xml_string(scene)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    views = Views(model, data)
    assert views.depth("above", (9, 9))[4, 4] == pytest.approx(0.4, abs=1e-3), "the last one"
    views.close()


def test_an_orthographic_camera_is_one_whatever_mujoco_calls_it(scene):
    class Later:
        """The same model as a MuJoCo has it that says `cam_projection`, 0 or 1, in place of `cam_orthographic`."""

        cam_projection = np.ones(1, np.int32)

        def __getattr__(self, name):
            if name == "cam_orthographic":
                raise AttributeError(name)
            return getattr(scene[0], name)

    with pytest.raises(SimulatorError, match="above: expected a camera with a field of view"):
        Views(Later(), scene[1]).intrinsics("above", (24, 40))


@pytest.mark.parametrize(
    "own", ['orthographic="true" fovy="4"', 'sensorsize="8e-3 2e-3" resolution="40 10" focal="1e-3 1e-3"']
)
def test_all_is_drawn_for_a_camera_that_sees_otherwise(own, drawn, monkeypatch):
    mujoco = pytest.importorskip("mujoco", reason="needs mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE.replace('fovy="60"', own))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    views, left = Views(model, data), []
    monkeypatch.setattr("nextmove.sim.mujoco_render._Opened._leave_out", lambda opened, outside: left.append(outside))
    views.rgb("above", (24, 40))
    assert not left
    with pytest.raises(SimulatorError, match="above: expected a camera with a field of view, found one with a sensor"):
        views.points(WORKSPACE, 16)
    views.close()
