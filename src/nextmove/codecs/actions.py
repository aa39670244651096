"""Action windows to model space: relative to the robot where wanted, scaled, and in bins for token models.

Letters: B batch, T observation steps, H horizon, A action width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.codecs.scaled import Parts
from nextmove.codecs.summary import Array, Summary
from nextmove.contracts import Codec
from nextmove.nn.planar import along, back, heading


class Actions(nn.Module):
    """Invertible map of action windows (B, H, A); its statistics describe the space it names.

    anchor: the observed position that is subtracted from every action ("relative", as in UMI, Chi et al. 2024), or none
    ("absolute"); with `stepwise` the position observed at the action's own step, where windows of both coincide, else
    the present one. frame: the observed points along whose heading relative actions are told (in the plane), or none
    (along the world's axes). per_step: each step of the horizon has statistics of its own, so that near steps, which
    decide, are not drowned by far ones.
    """

    def __init__(
        self,
        scale: Codec,
        *,
        anchor: str | None = None,
        frame: str | None = None,
        stepwise: bool = False,
        per_step: bool = False,
        bins: Codec | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.bins = scale, bins
        self.anchor, self.frame, self.stepwise, self.per_step = anchor, frame, stepwise, per_step

    @property
    def space(self) -> str:
        """The name of the space the statistics belong to."""
        frame = f" along {self.frame}" if self.frame else ""
        return f"relative to {self.anchor}{frame}" if self.anchor else "absolute"

    @property
    def end(self) -> float:
        """Largest magnitude of the fitted data in model space, infinite where their scaling sets it no end."""
        return float(getattr(self.scale, "end", math.inf))

    def fit(self, values: Array, *, size: Array | float = 0.0) -> None:
        """Fits the scale on `values` of all windows (N, D), and bins on what becomes of it; `size` of the same."""
        self.fit_parts(lambda: [(values, size)])

    def fit_parts(self, parts: Parts) -> None:
        """The same of values that come part by part, as `Scaled.fit_parts` takes them."""
        self.take(*self.scale.summary(parts))  # type: ignore[attr-defined]

    def take(self, found: Summary, quantiles: Array | None = None, size: Array | float = 0.0) -> None:
        """The same from statistics that were found already, as `Scaled.take`."""
        self.scale.take(found, quantiles, size)  # type: ignore[attr-defined]
        if self.bins is not None and math.isinf(self.end):
            ends = torch.from_numpy(np.stack([found.low, found.high])).float()
            self.bins.fit(self.scale.encode(ends).reshape(-1, self.bins.width))  # type: ignore[attr-defined]

    def relative(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, H, A) as seen from the robot's present position, or as they are."""
        if not self.anchor:
            return action
        x = action - self._origin(action, obs)
        return along(x, self._ahead(obs)) if self.frame else x

    def values(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """What the scale is fitted on: (B, H A) with statistics per step, else (B H, A)."""
        x = self.relative(action, obs)
        return x.flatten(1) if self.per_step else x.flatten(0, 1)

    def size(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Largest magnitude of the numbers that `values` are computed from, () or one for each of its columns."""
        if not self.anchor:
            return torch.zeros(())
        largest = torch.maximum(action.abs().amax((0, 1)), obs[self.anchor].abs().amax((0, 1)))
        # Turning mixes the axes.
        largest = largest.amax().expand_as(largest) if self.frame else largest
        return largest.repeat(action.shape[1]) if self.per_step else largest

    def encode(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Raw actions (B, H, A) to model space: (B, H, A), or (B, H A) ids with bins."""
        x = self.relative(action, obs)
        x = self.scale.encode(x.flatten(1)).view_as(x) if self.per_step else self.scale.encode(x)
        return x if self.bins is None else self.bins.encode(x)

    def decode(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Model space to raw actions (B, H, A)."""
        if self.bins is not None:
            x = self.bins.decode(x)
        x = self.scale.decode(x.flatten(1)).view_as(x) if self.per_step else self.scale.decode(x)
        if not self.anchor:
            return x
        return (back(x, self._ahead(obs)) if self.frame else x) + self._origin(x, obs)

    def _ahead(self, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, 1 or T, 2) heading at the step that actions are relative to."""
        assert self.frame is not None
        if self.frame not in obs:
            raise ValueError(f"relative actions: expected feature {self.frame!r}, found {sorted(obs)}")
        return heading(obs[self.frame] if self.stepwise else obs[self.frame][:, -1:])

    def _origin(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        assert self.anchor is not None
        if self.anchor not in obs:
            raise ValueError(f"relative actions: expected feature {self.anchor!r}, found {sorted(obs)}")
        origin = obs[self.anchor] if self.stepwise else obs[self.anchor][:, -1:]
        if origin.shape[-1] != action.shape[-1]:
            raise ValueError(
                f"{self.anchor}: expected the width of the action, {action.shape[-1]}, found {origin.shape[-1]}"
            )
        return origin
