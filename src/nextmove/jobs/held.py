"""Whether a data set's state is where an action would put the robot: what the baselines hold, and what decides `auto`.

Shapes: N frames, A action width.
"""

from __future__ import annotations

import numpy as np

from nextmove import data as sets
from nextmove.codecs.scaled import constant

STATE = "observation.state"


def spread(actions: np.ndarray) -> np.ndarray:
    """(A,) standard deviation of actions (N, A); 0 where they never move."""
    still = constant(actions.min(0), actions.max(0))
    return np.where(still, 0.0, actions.std(0, dtype=np.float64))


def held_state(dataset: sets.Dataset) -> str | None:
    """The feature that holds the robot where an action would put it, if any.

    It is the state if that is as wide, named the same and mostly nearer to the actions than their mean is: joint
    velocities and displacements are named as the joints' positions are.
    """
    state, action = dataset.layout.features.get(STATE), dataset.layout.features["action"]
    if state is None or not state.is_number or state.shape != action.shape:
        return None
    if state.names != action.names and state.names and action.names:
        return None
    return STATE if near(*(dataset.column(name)[dataset.rows] for name in (STATE, "action"))) else None


def near(state: np.ndarray, action: np.ndarray) -> bool:
    """Whether states (N, A) are where actions (N, A) send the robot.

    Most dimensions that move are nearer to the state than to their own mean, and none is ten times further from it, as
    one in other units would be.
    """
    moves = spread(action) > 0
    action, state = action[:, moves].astype(np.float64), state[:, moves].astype(np.float64)
    apart, own = np.abs(action - state).mean(0), np.abs(action - action.mean(0)).mean(0)
    return bool((apart < own).mean() > 0.5 and (apart < 10 * own).all()) if moves.any() else True
