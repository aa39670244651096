"""Which simulator made an episode: versions of its packages and how it draws, compared across machines and years."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nextmove.sim.base import Task


def installed(tasks: Iterable[Task], *, cameras: bool) -> dict[str, Any]:
    """`packages`: versions by name, of those that are installed; `rendering`: how images are drawn, with `cameras`."""
    found: dict[str, str] = {}
    rendering: dict[str, Any] = {}
    for task in tasks:
        rendering |= dict(task.rendering) if cameras else {}
        for package in (task.simulator, *task.packages):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
    return {"packages": found} | ({"rendering": rendering} if rendering else {})


def differences(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[str]:
    """What differs between two answers of `installed`: `mujoco 3.8.1, not 3.3.0`.

    Nothing where one of them is not known; what only one of them names is not compared.
    """
    if not one or not other:
        return []
    found = []
    for kind in ("packages", "rendering"):
        mine, theirs = one.get(kind, {}), other.get(kind, {})
        found += [f"{n} {_said(mine[n])}, not {_said(theirs[n])}" for n in mine if n in theirs and mine[n] != theirs[n]]
    return found


def _said(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
