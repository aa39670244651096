"""What every family's training is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A system, the source it learns from, its recipe if not its own, and what the task needs of the run's options."""

    system: str
    source: str
    recipe: Any = None
    holdout: float = 0.05
    seed: int = 0
    threads: int = 2
    start: Mapping[str, Path] = field(default_factory=dict)
    """Slots and the folders of the models whose parts they begin with (`jobs.adopt`)."""
