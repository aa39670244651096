"""Simulated robots behind one small contract (`Environment`), and scripted experts that know how to use them.

Nothing here imports torch; a simulator's own packages are imported when it is made.
"""

from __future__ import annotations

from typing import Any

from nextmove.config import nearest
from nextmove.sim import pusht
from nextmove.sim.base import Environment, Episode, Features, SimulatorError

__all__ = ["Environment", "Episode", "SimulatorError", "demonstrate", "features", "fps", "make", "names", "task"]

_SIMULATORS = {"pusht": pusht.PushT}


def names() -> tuple[str, ...]:
    """The simulators that `make` knows."""
    return tuple(_SIMULATORS)


def _find(name: str) -> type[pusht.PushT]:
    if name not in _SIMULATORS:
        known = ", ".join(_SIMULATORS)
        raise SimulatorError(f"name: expected a simulator ({known}), found {name!r}{nearest(name, _SIMULATORS)}")
    return _SIMULATORS[name]


def make(name: str, *, images: bool = False) -> Environment:
    """The simulator `name`; `images` adds its camera to the observations.

    Errors: `SimulatorError` for an unknown name, or naming the extra to install.
    """
    return _find(name)(images=images)


def features(name: str, *, images: bool = False) -> Features:
    """The LeRobot entries of what simulator `name` observes, does and reports; needs nothing installed."""
    return _find(name).describe(images=images)


def fps(name: str) -> int:
    """Actions a second of simulator `name`."""
    return _find(name).fps


def task(name: str) -> str:
    """What simulator `name` asks for, in words."""
    return _find(name).task


def demonstrate(name: str, number: int, **settings: Any) -> Episode:
    """Demonstration `number` of the scripted expert of simulator `name`; a function of its arguments alone.

    The settings are those of the expert: `pusht_expert.demonstrate`.
    """
    _find(name)
    from nextmove.sim import pusht_expert

    return pusht_expert.demonstrate(number, **settings)
