"""Coloured things on the tables of ALOHA and Meta-World, with their robots: every colour, shape and place.

The simulators' own models are read and the things added; nothing is stepped, and things lie where they are put.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.sim.base import SimulatorError
from nextmove.sim.missing import missing
from nextmove.sim.mujoco_render import Views, prepare
from nextmove.sim.scene import COLOURS, SHAPES, Scene, Thing, Wish, drawn_kind, drawn_things, row_and_column

CAMERA = "scene"
MOST = 4
"""Things on a table."""


@dataclass(frozen=True)
class Table:
    """A robot's table: its model's file, where it is seen from, and where things lie.

    eye, aim: of the camera, m; columns, rows: centres of the places, from the picture's left and back, m; side: half a
    cube's, m; jitter: how far a thing may lie from its place, m; removed: bodies that make room; near: one thing is
    drawn and nothing else asked for.
    """

    package: str
    file: str
    eye: tuple[float, float, float]
    aim: tuple[float, float, float]
    fovy: float
    columns: tuple[float, float, float]
    rows: tuple[float, float, float]
    side: float
    jitter: float
    removed: tuple[str, ...]
    hint: str
    near: bool = False


_ALOHA = "pip install gym-aloha==0.1.5 mujoco==3.3.0"
TABLES: Mapping[str, Table] = {
    "aloha/table": Table(
        "gym_aloha", "assets/bimanual_viperx_transfer_cube.xml", (0.0, 0.02, 0.62), (0.0, 0.62, 0.0), 52.0,
        (-0.2, 0.0, 0.2), (0.72, 0.57, 0.42), 0.03, 0.02, ("box",), _ALOHA,
    ),
    "aloha/thing": Table(
        "gym_aloha", "assets/bimanual_viperx_transfer_cube.xml", (0.0, 0.30, 0.34), (0.0, 0.57, 0.02), 30.0,
        (-0.04, 0.0, 0.04), (0.60, 0.57, 0.54), 0.03, 0.015, ("box",), _ALOHA, near=True,
    ),
    "metaworld/table": Table(
        "metaworld", "assets/sawyer_xyz/sawyer_reach_v3.xml", (0.0, 1.22, 0.72), (0.0, 0.6, 0.05), 46.0,
        (0.24, 0.0, -0.24), (0.53, 0.67, 0.81), 0.03, 0.02, ("obj",), "pip install metaworld==3.1.1 packaging",
    ),
}  # fmt: skip
TOP = (0.42, 0.42, 0.42, 1.0)
"""Colour of ALOHA's table."""
HANDS = (
    (2.536, -0.499, -1.108, 1.985, 1.231, 0.987, 2.527),
    (2.401, -0.499, -1.134, 2.069, 1.276, 0.982, 2.276),
    (2.225, -0.499, -1.146, 2.112, 1.300, 0.980, 2.047),
    (2.020, -0.499, -1.145, 2.110, 1.299, 0.980, 1.845),
    (1.802, -0.499, -1.132, 2.062, 1.272, 0.983, 1.687),
    (1.584, -0.499, -1.104, 1.972, 1.222, 0.988, 1.582),
)
"""Joints, rad, of Meta-World's robot at rest with its hand above the back of the table, right to left."""
FINGERS = {True: (0.0, 0.0), False: (0.0407, -0.0317)}
"""Its fingers, m, open and closed."""
REST = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0)
"""Joints, rad, in which ALOHA's arms begin."""


class TableScenes:
    """Draws scenes on one table; holds a model and its renderer."""

    def __init__(self, name: str, size: int) -> None:
        """name: of `TABLES`; size: height and width of the pictures.

        Raises SimulatorError where the simulator is not installed or nothing can render.
        """
        self.name, self.table, self.size = name, TABLES[name], size
        prepare()
        try:
            import mujoco
        except ImportError as problem:
            raise missing(name, "mujoco", problem, self.table.hint) from problem
        self._mujoco = mujoco
        self.model = _model(mujoco, self.name, self.table)
        self.data = mujoco.MjData(self.model)
        self._views = Views(self.model, self.data)

    def scenes(self, wish: Wish) -> list[Scene]:
        """The one scene that is wished for; a function of the wish alone."""
        rng = wish.rng(self.name)
        near = self.table.near
        things = [drawn_kind(rng, held=wish.held)] if near else drawn_things(rng, _count(rng), held=wish.held)
        self._mujoco.mj_resetData(self.model, self.data)
        grippers = self._pose(rng)
        for shape in SHAPES:
            self._put(shape, next((thing for thing in things if thing.shape == shape), None), rng)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        image = self._views.rgb(CAMERA, (self.size, self.size))
        return [Scene(image, self.name, tuple(things), {} if near else grippers, held=wish.held, near=near)]

    def close(self) -> None:
        """Frees the renderer."""
        self._views.close()

    def _put(self, shape: str, thing: Thing | None, rng: np.random.Generator) -> None:
        """Moves the body of a shape to its place and gives it its colour, or takes it away."""
        body = self.model.body(shape).id
        geom = self.model.body_geomadr[body]
        if thing is None:
            self.model.geom_rgba[geom, 3] = 0.0  # what is that transparent is not drawn
            return
        row, column = row_and_column(thing.place)
        x, y = rng.uniform(-self.table.jitter, self.table.jitter, 2)
        self.model.body_pos[body, :2] = self.table.columns[column] + x, self.table.rows[row] + y
        self.model.body_pos[body, 2] = _height(shape, self.table.side)
        turn = rng.uniform(-0.35, 0.35)
        self.model.body_quat[body] = np.cos(turn), 0, 0, np.sin(turn)
        shade = rng.uniform(0.9, 1.0)
        self.model.geom_rgba[geom] = [*(shade * part for part in COLOURS[thing.colour]), 1.0]

    def _pose(self, rng: np.random.Generator) -> dict[str, bool]:
        """Brings the robot into a pose; which of its grippers are open."""
        if self.table.package == "metaworld":
            is_open = bool(rng.integers(2))
            joints = np.array(HANDS[int(rng.integers(len(HANDS)))])
            joints[-1] += np.pi / 2  # so that the camera sees the gap between the fingers
            self.data.qpos[:] = [*joints, *FINGERS[is_open]]
            return {"gripper": is_open}
        found = {}
        for arm, side in enumerate(("left", "right")):
            is_open = bool(rng.integers(2))
            finger = 0.057 if is_open else 0.021
            self.data.qpos[8 * arm : 8 * arm + 8] = [*(REST + rng.uniform(-0.1, 0.1, 6)), finger, -finger]
            found[f"{side} gripper"] = is_open
        return found


def _count(rng: np.random.Generator) -> int:
    return int(rng.integers(1, MOST + 1))


def _model(mujoco: Any, name: str, table: Table) -> Any:
    """The simulator's model with a body for each shape and the camera."""
    found = find_spec(table.package)
    if found is None or found.origin is None:
        raise SimulatorError(f"{name}: needs {table.package}, which is not installed; {table.hint}")
    spec = mujoco.MjSpec.from_file(str(Path(found.origin).parent / table.file))
    for body in list(spec.bodies):
        if body.name in table.removed:
            _remove(spec, body)
    for key in list(spec.keys):
        _remove(spec, key)
    camera = spec.worldbody.add_camera(name=CAMERA, pos=table.eye, fovy=table.fovy)
    camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    camera.alt.xyaxes = _axes(table.eye, table.aim)
    corners: list[list[float]] = [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [0, 0, 1.4]]
    spec.add_mesh(name="pyramid", uservert=[table.side * c for corner in corners for c in corner])
    for shape in SHAPES:
        body = spec.worldbody.add_body(name=shape, pos=table.aim)
        body.add_geom(contype=0, conaffinity=0, mass=0.01, **_geom(mujoco.mjtGeom, shape, table.side))
    for site in spec.sites:
        site.rgba = [*site.rgba[:3], 0.0]  # a goal would look like a ball
    model = spec.compile()
    model.mat_reflectance[:] = 0.0
    if table.package == "gym_aloha":
        model.geom("table").rgba[:] = TOP  # as it is, black things would hardly be seen
    return model


def _remove(spec: Any, part: Any) -> None:
    """Takes a body or a key out of a model, as MuJoCo before 3.3.1 does it or since."""
    if hasattr(spec, "delete"):
        spec.delete(part)
    elif hasattr(part, "delete"):
        part.delete()
    else:
        spec.detach_body(part)


def _geom(kinds: Any, shape: str, side: float) -> dict[str, Any]:
    """Kind and size of a shape."""
    if shape == "pyramid":
        return {"type": kinds.mjGEOM_MESH, "meshname": "pyramid"}
    kind, size = {
        "cube": (kinds.mjGEOM_BOX, (1.0, 1.0, 1.0)),
        "ball": (kinds.mjGEOM_SPHERE, (1.15, 0.0, 0.0)),
        "can": (kinds.mjGEOM_CYLINDER, (0.75, 1.7, 0.0)),
        "plate": (kinds.mjGEOM_CYLINDER, (1.7, 0.25, 0.0)),
        "bar": (kinds.mjGEOM_BOX, (2.2, 0.5, 0.5)),
    }[shape]
    return {"type": kind, "size": [side * part for part in size]}


def _height(shape: str, side: float) -> float:
    """Of a thing's centre above the table; a mesh's centre is its centre of mass."""
    return side * {"ball": 1.15, "can": 1.7, "plate": 0.25, "bar": 0.5, "pyramid": 0.6}.get(shape, 1.0)


def _axes(eye: Sequence[float], aim: Sequence[float]) -> list[float]:
    """The camera's x and y in the world, of one that looks from `eye` at `aim`, upright."""
    z = np.subtract(eye, aim) / np.linalg.norm(np.subtract(eye, aim))
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    return [*x.tolist(), *np.cross(z, x).tolist()]
