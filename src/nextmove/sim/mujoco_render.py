"""Images and depth of a MuJoCo scene, without a display: for any simulator that has an MjModel and its MjData.

    prepare()                                   # before anything imports mujoco: chooses EGL, else OSMesa
    views = Views(model, data)                  # opens nothing yet; state-only work needs no OpenGL
    views.rgb("top", (96, 96))                  # uint8 (96, 96, 3)
    views.depth("top", (96, 96))                # float32 (96, 96), metres along the optical axis
    views.rgbd("top", (96, 96))                 # both
    views.points(task.cloud, 512)               # float32 (512, 3), metres of the world
    views.intrinsics("top", (96, 96))           # (3, 3), for pixels counted from 0 at their centres
    views.pose("top")                           # (4, 4), camera to world; x right, y down, z into the scene
    views.close()

dm_control's physics has them as `physics.model.ptr` and `physics.data.ptr`, gymnasium's environments as `env.model`
and `env.data`, robosuite as `env.sim.model._model` and `env.sim.data._data`. What replaces model or data (robosuite's
hard reset does) needs new Views. One OpenGL context serves all cameras and sizes, so textures are loaded once.

Shadows and multisampling are off: software rendering is 8 to 10 times as fast without them. Policies see the
difference, so both are recorded with demonstrations (`SETTINGS`). Depth alone is drawn without light, textures and
mirrors, which it doesn't depend on, in 0.6 of the time; points without what cannot hide them and without a sky. What
lies beside the image is left out where no mirror shows it.
"""

from __future__ import annotations

import atexit
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.config import nearest
from nextmove.sim.base import Cloud, SimulatorError, Size
from nextmove.sim.mujoco_gl import context, prepare, unable
from nextmove.sim.mujoco_hull import Region, between, seen
from nextmove.sim.points import Eye, Points, Rays

__all__ = ["SETTINGS", "Views", "prepare"]

SETTINGS = {"shadows": False, "multisampling": False}
"""How everything here is rendered."""
_FONT = 150
"""Per cent; MuJoCo wants to know, although no text is drawn."""

_MORE = 10_000
"""Of what is drawn beside the geoms: sites, tendons."""


class Views:
    """The cameras of one scene, as it is now, at any size."""

    def __init__(self, model: Any, data: Any, *, hidden: Sequence[int] = (), unmirrored: Sequence[str] = ()) -> None:
        """model, data: MjModel and its MjData, which are read at every call.

        hidden: groups of geoms that are not drawn beside MuJoCo's own choice, such as collision shapes. unmirrored:
        cameras that see no mirror, of which MuJoCo draws the whole scene once more all the same.
        """
        self._model, self._data, self._hidden = model, data, tuple(hidden)
        self._unmirrored = tuple(unmirrored)
        self._opened: _Opened | None = None
        self._rays: dict[Cloud, tuple[Rays, Region]] = {}

    @property
    def cameras(self) -> list[str]:
        """Names of the scene's cameras."""
        return [self._model.camera(number).name for number in range(self._model.ncam)]

    def rgb(self, camera: str, size: Size) -> npt.NDArray[np.uint8]:
        """What the camera sees, (height, width, 3).

        Raises SimulatorError for a camera that the scene lacks, and where no OpenGL is to be had: what is missing and
        how to install it.
        """
        return self._draw(camera, size)[0]

    def depth(self, camera: str, size: Size) -> npt.NDArray[np.float32]:
        """Metres along the optical axis, (height, width); errors are those of `rgb`."""
        return self._metres(self._draw(camera, size, colours=False, depth=True)[1])

    def rgbd(self, camera: str, size: Size) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """`rgb` and `depth` of the same moment, drawn once."""
        colours, inverse = self._draw(camera, size, depth=True)
        return colours, self._metres(inverse)

    def points(self, cloud: Cloud, count: int) -> Points:
        """(count, 3) metres of the world: points of a workspace, as `sim.points.Rays.point_cloud` chooses them."""
        eye = self._eye(cloud.camera, cloud.size)
        if cloud not in self._rays or not self._rays[cloud][0].eye.same(eye):
            self._rays[cloud] = Rays(eye, cloud), between(eye, cloud)
        rays, region = self._rays[cloud]
        near = self._draw(cloud.camera, cloud.size, colours=False, depth=True, only=region)[1]
        return rays.point_cloud(self._metres(near), count)

    def intrinsics(self, camera: str, size: Size) -> npt.NDArray[np.float64]:
        """(3, 3): column and row of a pixel, counted from 0 at the centres, times depth, from x, y, z of the camera.

        Raises SimulatorError for a camera with a sensor of its own or without perspective: so it has no points either.
        """
        (height, width), number = size, self._camera(camera)
        if self._special(number):
            raise SimulatorError(
                f"{camera}: expected a camera with a field of view, found one with a sensor of its own or without "
                "perspective, whose images are drawn and whose pixels are not placed"
            )
        angle = np.radians(float(self._model.cam_fovy[number]))
        focal = 0.5 * height / np.tan(0.5 * angle)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float64)

    def pose(self, camera: str) -> npt.NDArray[np.float64]:
        """(4, 4): from the camera's metres (x right, y down, z into the scene) to the world's."""
        number = self._camera(camera)
        found = np.eye(4)
        found[:3, :3] = self._data.cam_xmat[number].reshape(3, 3) * [1.0, -1.0, -1.0]
        found[:3, 3] = self._data.cam_xpos[number]
        return found

    def close(self) -> None:
        """Frees what was opened; the next image opens it again."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _eye(self, camera: str, size: Size) -> Eye:
        return Eye(self.intrinsics(camera, size), self.pose(camera))

    def _draw(
        self, camera: str, size: Size, *, colours: bool = True, depth: bool = False, only: Region | None = None
    ) -> tuple[Any, Any]:
        """What `_Opened.draw` gives; only: all that counts, if that is less than what the image shows."""
        number = self._camera(camera)
        mirrors = colours and camera not in self._unmirrored and bool((self._model.mat_reflectance > 0).any())
        whole = mirrors or self._special(number)
        region = only or (None if whole else seen(self._eye(camera, size), size))
        return self._open(size).draw(
            number, size, colours=colours, depth=depth, mirrors=mirrors, sky=only is None, region=region
        )

    def _special(self, number: int) -> bool:
        """Whether a camera has a sensor of its own or no perspective, so that its field of view does not say all."""
        names = ("cam_projection", "cam_orthographic")  # as later versions of MuJoCo call it, and earlier ones
        flat = any(getattr(self._model, name)[number] for name in names if hasattr(self._model, name))
        return bool(self._model.cam_sensorsize[number].any() or flat)

    def _metres(self, inverse: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Of how near each pixel is, 1 at the near plane and 0 at the far one."""
        planes = self._model.vis.map
        near, far = (float(plane) * float(self._model.stat.extent) for plane in (planes.znear, planes.zfar))
        return (near * far / (near + (far - near) * inverse.astype(np.float64))).astype(np.float32)

    def _camera(self, name: str) -> int:
        names = self.cameras
        if name not in names:
            known = ", ".join(names) or "none"
            raise SimulatorError(
                f"cameras: expected one of the scene's ({known}), found {name!r}{nearest(name, names)}"
            )
        return names.index(name)

    def _open(self, size: Size) -> _Opened:
        if self._opened is None:
            self._opened = _Opened(self._model, self._data, size, self._hidden)
        return self._opened


class _Opened:
    """An OpenGL context with the scene's meshes and textures in it."""

    def __init__(self, model: Any, data: Any, size: Size, hidden: Sequence[int]) -> None:
        choice = prepare()
        import mujoco

        self._mujoco, self._model, self._data, self._largest = mujoco, model, data, size
        model.vis.quality.offsamples = 0
        model.vis.global_.offheight, model.vis.global_.offwidth = size
        self._scene = mujoco.MjvScene(model=model, maxgeom=model.ngeom + _MORE)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._options = mujoco.MjvOption()
        for group in hidden:
            self._options.geomgroup[group] = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # glfw warns of what it then raises
                self._gl = context(choice, size)
                self._gl.make_current()
                self._context = mujoco.MjrContext(model, _FONT)
        except Exception as problem:  # of MuJoCo, PyOpenGL, glfw or the loader, each of its own kind
            raise SimulatorError(unable(choice, str(problem))) from problem
        self.close = weakref.finalize(self, _free, self._context, self._gl)
        atexit.register(self.close)  # before what MuJoCo has registered, which ends EGL itself
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR

    def draw(
        self, camera: int, size: Size, *, colours: bool, depth: bool, mirrors: bool, sky: bool, region: Region | None
    ) -> tuple[Any, Any]:
        """The image, and how near each pixel is (1 at the near plane, 0 at the far one), of each what is asked for.

        region: geoms outside are not drawn.
        """
        mujoco, (height, width) = self._mujoco, size
        self._gl.make_current()
        if height > self._largest[0] or width > self._largest[1]:
            self._largest = max(height, self._largest[0]), max(width, self._largest[1])
            mujoco.mjr_resizeOffscreen(self._largest[1], self._largest[0], self._context)
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
        everything = mujoco.mjtCatBit.mjCAT_ALL
        self._options.flags[mujoco.mjtVisFlag.mjVIS_TEXTURE] = colours
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, view, everything, self._scene)
        self._scene.nlight *= colours
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = mirrors
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = sky
        if region is not None:
            self._leave_out(region.outside(self._model, self._data))
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, self._context)
        image = np.empty((height, width, 3), np.uint8) if colours else None
        near = np.empty((height, width), np.float32) if depth else None
        mujoco.mjr_readPixels(image, near, area, self._context)
        return None if image is None else np.ascontiguousarray(image[::-1]), None if near is None else near[::-1]

    def _leave_out(self, outside: npt.NDArray[np.bool_]) -> None:
        """Of the geoms of the model those (ngeom,); what else is in the scene stays."""
        geom, nothing = int(self._mujoco.mjtObj.mjOBJ_GEOM), int(self._mujoco.mjtGeom.mjGEOM_NONE)
        for shown in self._scene.geoms[: self._scene.ngeom]:
            if shown.objtype == geom and outside[shown.objid]:
                shown.type = nothing


def _free(context: Any, gl: Any) -> None:
    """Gives back what OpenGL holds; also called at the end of a process that did not close."""
    gl.make_current()
    context.free()
    gl.free()
