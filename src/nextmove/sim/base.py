"""A task of a simulator, the simulator's protocol, and a demonstrated episode."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nextmove.config import nearest

Array: TypeAlias = npt.NDArray[Any]
Observation: TypeAlias = dict[str, Any]
Info: TypeAlias = dict[str, Any]
Features: TypeAlias = Mapping[str, Mapping[str, Any]]
Size: TypeAlias = tuple[int, int]
"""Of an image: height, width."""
Cameras: TypeAlias = Mapping[str, Size]
Asked: TypeAlias = Cameras | Sequence[str]
"""Cameras by size, or names of them: NAME or NAME=HEIGHTxWIDTH."""
DEPTH = "_depth"
"""What the name of a camera's depth ends with, as LeRobot's cameras have it."""
POINTS = "observation.point_cloud"
"""The feature of the points that a task's cloud gives, float32 (P, 3), metres of the world."""


class SimulatorError(RuntimeError):
    """A simulator is unknown, not installed, or was used against its contract; the message says what to do."""


class Simulator(Protocol):
    """The world of one task without checks; `Environment` makes them. Arrays it hands out are never written again.

    One with an attribute `seeing` draws no image and no points while that is False, but has zeros in their place.
    """

    def reset(self, *, seed: int) -> tuple[Observation, Info]:
        """The first observation of episode `seed`: every feature as float32 (D,), cameras as `shown` says."""
        ...

    def step(self, action: Array) -> tuple[Observation, float, bool, Info]:
        """One float32 action (A,): observation, reward, whether the episode is over, info with `is_success`."""
        ...

    def render(self) -> npt.NDArray[np.uint8]:
        """An image of the present state for people, uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Frees what the simulator holds."""
        ...


@dataclass(frozen=True)
class Cloud:
    """Where a task's points come from: the depth of a camera, of which a workspace is kept."""

    camera: str
    """As the simulator names it."""
    size: Size
    """Of the depth image."""
    low: tuple[float, float, float]
    """Corner x, y, z of the workspace, metres of the world."""
    high: tuple[float, float, float]
    """The opposite corner."""
    plane: float = 0.0
    """Height of the table, whose points are left out."""


@dataclass(frozen=True)
class Task:
    """One task of one simulator, known without loading it."""

    name: str
    """Of letters, digits, `-` and `_`, perhaps with its suite and `/` before it: it is a key of results."""
    simulator: str
    """The package that runs it, as installed; tasks of one simulator share its module."""
    instruction: str
    """What is to be done, as text; recorded with demonstrations, part of every observation."""
    fps: int
    """Actions a second."""
    max_steps: int
    """Actions of an episode, after which it is truncated."""
    unit: str
    """Of the actions and the noise on them."""
    robot_type: str
    """As LeRobot's data sets name it."""
    features: Features
    """LeRobot entries of the numbers observed and of `action`; cameras apart."""
    make: str
    """`module:name` of what builds the `Simulator`: `name(task, cameras)`, with `points` where there is a cloud."""
    cameras: Cameras = field(default_factory=dict)
    """Every camera there is, by its feature's name, with the size it has unless another is asked for."""
    depth: bool = False
    """Whether each camera has a depth too, of its name with `DEPTH` behind it, in metres."""
    cloud: Cloud | None = None
    """Where a point cloud comes from, if the task offers one."""
    expert: str = ""
    """`module:name` of what demonstrates: `name(task, number, *, seed, noise, noisy_share, cameras)`, with `points`
    where there is a cloud, perhaps with settings of its own; empty where there is none."""
    subtasks: str = ""
    """`module:name` of what says the sub-task of every step of a demonstration in words: `name(task, features)`, from
    columns (T, ...) by name T strings; empty where nothing does."""
    noise: float = 0.0
    """Standard deviation of the noise on the actions executed while demonstrations are recorded, in `unit`."""
    holds: bool = True
    """Whether success lasts. Where it can be lost again episodes go on after it, to `max_steps`, and are scored both by
    success at any step and by success at the last."""
    one_per_process: bool = False
    """Whether a process can hold only one environment of this simulator at a time."""
    packages: tuple[str, ...] = ()
    """Those beside `simulator` whose versions decide what happens; recorded with demonstrations and results."""
    rendering: Mapping[str, Any] = field(default_factory=dict)
    """How its cameras draw, where that can be chosen; recorded beside the versions."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What tells the tasks of one simulator apart, for its module alone."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", self.name):
            raise ValueError(f"name: expected letters, digits, -, _ and / between them, found {self.name!r}")
        if "action" not in self.features:
            raise ValueError(f"{self.name}: features: expected 'action', found {sorted(self.features)}")

    @property
    def action(self) -> int:
        """Numbers of an action."""
        return int(self.features["action"]["shape"][0])

    def sized(self, asked: Asked) -> dict[str, Size]:
        """The cameras asked for, in the table's order, then their depths; a name may be the last part of a camera's.

        Raises SimulatorError for a camera that the task lacks, naming those it has, and for a size that is none.
        """
        found, views = {}, self.views
        for text in asked:
            name, _, size = text.partition("=")
            camera = self._view(name)
            found[camera] = asked[text] if isinstance(asked, Mapping) else _size(text, size, views[camera])
        return {name: _positive(name, found[name]) for name in views if name in found}

    @property
    def views(self) -> dict[str, Size]:
        """The cameras, and behind them their depths."""
        return {**self.cameras, **{f"{name}{DEPTH}": size for name, size in self.cameras.items() if self.depth}}

    def _view(self, name: str) -> str:
        named = [view for view in self.views if name in (view, view.rpartition(".")[2])]
        if len(named) != 1:
            known = ", ".join(self.cameras) or "none"
            depths = f"each with a depth, NAME{DEPTH}" if self.depth else "without depth"
            offered = f"{known}; {depths}" if self.cameras else known
            raise SimulatorError(
                f"cameras: expected one of {self.name} ({offered}), found {name!r}{nearest(name, self.views)}"
            )
        return named[0]

    def entries(self, asked: Asked = (), points: int = 0) -> dict[str, dict[str, Any]]:
        """The LeRobot entries of all columns of an episode with these cameras and so many points."""
        numbers = {name: dict(entry) for name, entry in self.features.items()}
        action, images = numbers.pop("action"), {n: image(n, s) for n, s in self.sized(asked).items()}
        return {**numbers, **self.clouds(points), **images, "action": action, **outcome()}

    def clouds(self, points: int) -> dict[str, dict[str, Any]]:
        """The LeRobot entry of a cloud of so many points, none for 0; raises SimulatorError where there is no cloud."""
        if points < 0 or (points and self.cloud is None):
            offered = "0 or more" if self.cloud else f"0, since {self.name} offers no point cloud"
            raise SimulatorError(f"points: expected {offered}, found {points}")
        return {POINTS: {"dtype": "float32", "shape": [points, 3], "names": ["point", "axis"]}} if points else {}


def _size(text: str, size: str, default: Size) -> Size:
    """96x128 as (96, 128); the default where no size is given."""
    if "=" not in text:
        return default
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    if found is None:
        raise SimulatorError(f"cameras: expected NAME or NAME=HEIGHTxWIDTH, such as image=96x96, found {text!r}")
    return int(found[1]), int(found[2])


def _positive(name: str, size: Size) -> Size:
    height, width = (int(side) for side in size)
    if height < 1 or width < 1:
        raise SimulatorError(f"cameras: {name}: expected a positive height and width, found {height} x {width}")
    return height, width


def load(reference: str) -> Callable[..., Any]:
    """What `module:name` refers to."""
    module, _, name = reference.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


@dataclass(frozen=True)
class Episode:
    """A recorded episode.

    columns: by feature name, one row a step: observation, the action taken from it, and the reward, end and success
    that followed, as in LeRobot. info: numbers worth reporting (not stored in a data set).
    """

    columns: Mapping[str, Array]
    success: bool
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["action"])


def unseen(cameras: Cameras, points: int = 0) -> Observation:
    """Zeros in place of the images and points of an observation that nobody reads."""
    blank: Observation = {name: np.zeros(shape, kind) for name, (kind, shape) in shown(cameras).items()}
    return blank | ({POINTS: np.zeros((points, 3), np.float32)} if points else {})


def is_depth(view: str) -> bool:
    """Whether a camera's name is that of its depth."""
    return view.endswith(DEPTH)


def shown(cameras: Cameras) -> dict[str, tuple[str, tuple[int, int, int]]]:
    """Dtype and shape of what cameras show: colours, or metres along the optical axis."""
    return {n: ("float32", (*size, 1)) if is_depth(n) else ("uint8", (*size, 3)) for n, size in cameras.items()}


def looked(cameras: Cameras, colours: Callable[[str, Size], Array], depth: Callable[[str, Size], Array]) -> Observation:
    """What cameras show, drawn by `colours` and `depth` of the last part of a camera's name and a size."""
    seen: Observation = {}
    for view, size in cameras.items():
        name = view.rpartition(".")[2]
        seen[view] = depth(name.removesuffix(DEPTH), size)[..., None] if is_depth(view) else colours(name, size)
    return seen


def vector(width: int, names: list[str]) -> dict[str, Any]:
    """The LeRobot entry of a float32 vector."""
    return {"dtype": "float32", "shape": [width], "names": names}


def image(view: str, size: Size) -> dict[str, Any]:
    """The LeRobot entry of a camera, or of its depth."""
    deep = is_depth(view)
    entry = {"dtype": "video", "shape": [*size, 1 if deep else 3], "names": ["height", "width", "channels"]}
    return entry | ({"info": {"is_depth_map": True, "depth_unit": "m"}} if deep else {})


def outcome() -> dict[str, dict[str, Any]]:
    """The LeRobot entries of what follows an action."""
    return {
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
