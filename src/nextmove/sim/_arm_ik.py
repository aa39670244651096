"""Inverse kinematics of arms in MuJoCo by damped least squares; importing this module imports MuJoCo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_DAMPING, _STEP, _CLOSE = 1e-4, 0.2, 1e-4
_PULL = 1e-3
"""Weight of a radian from 0 beside a metre or radian from the pose, squared."""


class ArmIk:
    """Joints that bring bodies to poses, each search beginning where the last one ended.

    The solver moves data of its own, so that the simulation is not touched.
    """

    def __init__(self, model: Any, arms: Mapping[str, Sequence[str]], upright: Sequence[str] = ()) -> None:
        """arms: by the name of the body to be moved the names of the hinge joints that move it.

        upright: joints that are kept near 0 where a pose leaves them free. Two joints that turn about one axis when the
        one between them is straight would otherwise come out of that by half a turn, to either side.
        """
        self._model, self._data = model, mujoco.MjData(model)
        self._body = {body: model.body(body).id for body in arms}
        self._dofs = {body: [int(model.joint(joint).dofadr[0]) for joint in joints] for body, joints in arms.items()}
        self._adr = {body: [int(model.joint(joint).qposadr[0]) for joint in joints] for body, joints in arms.items()}
        self._pull = {body: _PULL * np.array([joint in upright for joint in joints]) for body, joints in arms.items()}
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
        for done in range(iterations):
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_comPos(self._model, self._data)
            missing = self._missing(body, position, quaternion)
            if np.linalg.norm(missing) < _CLOSE:
                break
            mujoco.mj_jacBody(self._model, self._data, translation, rotation, self._body[body])
            jacobian = np.concatenate([translation, rotation])[:, dofs]
            # At the end nothing draws the body away from its pose.
            pull = self._pull[body] * (3 * done < 2 * iterations)
            normal = jacobian.T @ jacobian + np.diag(_DAMPING + pull)
            step = np.linalg.solve(normal, jacobian.T @ missing - pull * self._data.qpos[adr])
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
