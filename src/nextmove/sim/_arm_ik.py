"""Inverse kinematics of arms in MuJoCo by damped least squares; importing this module imports MuJoCo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_DAMPING, _STEP, _CLOSE = 1e-4, 0.2, 1e-4


class ArmIk:
    """Joints that bring bodies to poses, each search beginning where the last one ended.

    The solver moves data of its own, so that the simulation is not touched.
    """

    def __init__(self, model: Any, arms: Mapping[str, Sequence[str]]) -> None:
        """arms: by the name of the body to be moved the names of the hinge joints that move it."""
        self._model, self._data = model, mujoco.MjData(model)
        self._body = {body: model.body(body).id for body in arms}
        self._dofs = {body: [int(model.joint(joint).dofadr[0]) for joint in joints] for body, joints in arms.items()}
        self._adr = {body: [int(model.joint(joint).qposadr[0]) for joint in joints] for body, joints in arms.items()}
        self._range = {body: np.array([model.joint(joint).range for joint in joints]) for body, joints in arms.items()}

    def begin(self, qpos: Floats) -> None:
        """Where the next search begins: positions of the whole model."""
        self._data.qpos[:] = qpos

    def joints(self, body: str, position: Floats, quaternion: Floats, *, iterations: int = 30) -> Floats:
        """(number of joints,) radians within their ranges that bring `body` to a pose, as nearly as they reach.

        position: (3,) metres. quaternion: (4,), w first.
        """
        adr, dofs, bounds = self._adr[body], self._dofs[body], self._range[body]
        translation, rotation = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(iterations):
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_comPos(self._model, self._data)
            missing = self._missing(body, position, quaternion)
            if np.linalg.norm(missing) < _CLOSE:
                break
            mujoco.mj_jacBody(self._model, self._data, translation, rotation, self._body[body])
            jacobian = np.concatenate([translation, rotation])[:, dofs]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING * np.eye(6), missing)
            step *= min(1.0, _STEP / max(float(np.linalg.norm(step)), 1e-12))
            self._data.qpos[adr] = np.clip(self._data.qpos[adr] + step, bounds[:, 0], bounds[:, 1])
        return np.array(self._data.qpos[adr])

    def _missing(self, body: str, position: Floats, quaternion: Floats) -> Floats:
        """(6,): metres and rotation vector from where the body is to where it should be."""
        number, back, turn, vector = self._body[body], np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(back, self._data.xquat[number])
        mujoco.mju_mulQuat(turn, quaternion, back)
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return np.concatenate([position - self._data.xpos[number], vector])
