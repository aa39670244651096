"""What each family of systems is trained on: one file a family, one line each in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextmove.config import ConfigError
from nextmove.jobs.fit import Task
from nextmove.jobs.tasks import images, pairs, policy, text
from nextmove.jobs.tasks.asked import Asked
from nextmove.systems import Family, find

__all__ = ["FAMILIES", "Asked", "Trained", "trained"]


@dataclass(frozen=True)
class Trained:
    """How a family is trained: the options of its sources, and what makes a task of them."""

    options: type
    task: Callable[[Asked, Any], Task]


FAMILIES: dict[Family, Trained] = {
    "text": Trained(text.Options, text.task),
    "image": Trained(images.Options, images.task),
    "policy": Trained(policy.Options, policy.task),
    "vision-language-action": Trained(policy.Options, policy.task),
    "vision-language": Trained(pairs.Options, pairs.task),
}


def trained(system: str) -> Trained:
    """How the system's family is trained; raises ConfigError for a system that there is not, or not yet."""
    found = find(system)
    found.load()
    if found.family not in FAMILIES:
        raise ConfigError(f"system {system!r}: no training is known for {found.family} systems")
    return FAMILIES[found.family]
