"""How a trained decoder is sampled, chosen afterwards: another solver, number of network calls, or guidance weight.

A decoder's config answers what may be chosen, so that a comparison is refused before it trains; the decoder shares its
weights with the one it was made from.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, Self

from torch import nn

from nextmove.config import ConfigError


def finite(guidance: float) -> float:
    """The weight of guidance; raises ConfigError where it is no number."""
    if not math.isfinite(guidance):
        raise ConfigError(f"guidance: expected a finite number, found {guidance}")
    return guidance


class OneWay:
    """A decoder's config that leaves nothing to choose."""

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same where nothing is asked for (steps 0: as trained); raises ConfigError naming what there is not."""
        name = type(self).__name__
        if solver or finite(guidance) != 1:
            what = "sampler" if solver else "guidance"
            raise ConfigError(f"{what}: {name} is not integrated step by step; leave it out")
        if steps:
            raise ConfigError(f"steps: {name} has no number of steps to choose; leave it out")
        return self


class FewSteps(OneWay):
    """A decoder's config with a number of `steps`."""

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same with another number of steps (0: its own); raises ConfigError for a solver or guidance."""
        super().with_sampling(solver, 0, guidance)
        return replace(self, steps=steps) if steps else self  # type: ignore[type-var]


class Outer(nn.Module):
    """A decoder around an `inner` one, which says how it is sampled."""

    inner: Any

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The inner decoder sampled in another way, its weights shared; raises ConfigError naming what it has not."""
        inner = self.inner.with_sampling(solver, steps, guidance)
        if inner is self.inner:
            return self
        other = copy.copy(self)
        other._modules = {**self._modules, "inner": inner}
        return other


class Resampled:
    """A decoder whose config says how it is sampled."""

    config: Any

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same weights (shared, not copied) sampled in another way; raises ConfigError naming what there is not."""
        chosen = self.config.with_sampling(solver, steps, guidance)
        if chosen is self.config:
            return self
        other = copy.copy(self)
        other.config = chosen
        return other
