"""The robot a policy is for (`PolicySpec`), and its history, horizon and executed actions (`Timing`).

Shapes: T observation steps, H horizon, A action width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from nextmove.contracts import Feature
from nextmove.contracts.features import states


@dataclass(frozen=True)
class PolicySpec:
    """The robot a policy is for: what it may be shown in file order, the width of its action, and the rate."""

    inputs: dict[str, Feature]
    action: int
    fps: float
    action_names: tuple[str, ...] = ()
    """Of the action's dimensions, as far as the data have them."""

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise ValueError(f"spec.fps: expected a finite number of actions a second above 0, found {self.fps}")
        if self.action < 1:
            raise ValueError(f"spec.action: expected a width of at least 1, found {self.action}")

    @classmethod
    def of_states(cls, widths: Mapping[str, int], action: int, fps: float) -> PolicySpec:
        """A robot that shows states only, by name and width."""
        return cls(states(widths), action, fps)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Names of the dimensions, of each input and of `action`, as far as they are known."""
        found = {name: feature.names for name, feature in self.inputs.items()} | {"action": self.action_names}
        return {name: names for name, names in found.items() if names}


@dataclass(frozen=True)
class Timing:
    """When a policy looks and for how long it plans."""

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 4
    """Actions executed of each plan before the next."""
    align: Literal["now", "first_observation"] = "now"
    """The step that the first predicted action belongs to (Diffusion Policy starts at the first observed step)."""
    ensemble: float | None = None
    """Coefficient of temporal ensembling (`control.Ensembling`; ACT's code: 0.01), which plans at every step; none: the
    first actions of each plan are executed."""

    def __post_init__(self) -> None:
        if self.ensemble is not None and not math.isfinite(self.ensemble):
            raise ValueError(f"timing.ensemble: expected a finite coefficient or none, found {self.ensemble}")
        if self.ensemble is not None and self.n_action_steps != 1:
            raise ValueError(
                f"timing.n_action_steps: expected 1, for temporal ensembling plans at every step, found "
                f"{self.n_action_steps}; choose 1, or no timing.ensemble"
            )
        for name in ("n_obs_steps", "horizon", "n_action_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"timing.{name}: expected at least 1, found {getattr(self, name)}")
        room = self.horizon - self.first
        if self.n_action_steps > room:
            raise ValueError(
                f"timing.n_action_steps: expected at most {room} of horizon {self.horizon}, found {self.n_action_steps}"
            )

    @property
    def first(self) -> int:
        """Index in the window of the action that is due now."""
        return self.n_obs_steps - 1 if self.align == "first_observation" else 0

    def executing(self, steps: int) -> Timing:
        """The same with the first `steps` actions of each plan executed, whatever it was before; not ensembled."""
        return replace(self, n_action_steps=steps, ensemble=None)

    @property
    def obs_offsets(self) -> tuple[int, ...]:
        """Observed frames relative to now."""
        return tuple(range(1 - self.n_obs_steps, 1))

    @property
    def action_offsets(self) -> tuple[int, ...]:
        """Predicted frames relative to now."""
        return tuple(range(-self.first, self.horizon - self.first))
