"""The codec of action windows: relative to the robot if asked for, scaled, and in bins for token models.

Shapes: B batch, T observation steps, H horizon, A action width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.codecs.bins import Bins
from nextmove.codecs.scaled import Parts, Scaled
from nextmove.contracts import Known, Numbers
from nextmove.contracts.summary import Array, Summary
from nextmove.geometry import along, back, heading


class Actions(nn.Module):
    """Invertible map of action windows (B, H, A); its statistics describe the space it names.

    reference: the observed state subtracted from every action ("relative", as in UMI, Chi et al. 2024), or none
    ("absolute"); with `stepwise` the position observed at the action's own step, where windows of both coincide, else
    the present one. frame: the observed points along whose heading relative actions are expressed (in the plane), or
    none (along the world's axes). per_step: each step of the horizon has statistics of its own, so that near steps are
    not scaled by the spread of far ones. width: A, that of the scale if not given. pad: zeros that are appended to each
    action, up to a width that does not depend on the robot (pi0's 32); they count nothing in a loss. mask_padding:
    steps beyond the end of an episode count nothing either.
    """

    def __init__(
        self,
        scale: Scaled,
        *,
        reference: str | None = None,
        frame: str | None = None,
        stepwise: bool = False,
        per_step: bool = False,
        bins: Bins | None = None,
        width: int = 0,
        pad: int = 0,
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.bins = scale, bins
        self.reference, self.frame, self.stepwise, self.per_step = reference, frame, stepwise, per_step
        self.width, self.pad, self.mask_padding = width or scale.width, pad, mask_padding

    @property
    def space(self) -> str:
        """The name of the space the statistics belong to."""
        frame = f" along {self.frame}" if self.frame else ""
        return f"relative to {self.reference}{frame}" if self.reference else "absolute"

    @property
    def end(self) -> float:
        """Largest magnitude of the fitted data in model space, infinite where their scaling sets it no end."""
        return self.scale.end

    @property
    def inputs(self) -> tuple[str, ...]:
        """Features of the observation that relative actions are computed with."""
        return tuple(name for name in dict.fromkeys((self.reference, self.frame)) if name)

    def fit(self, numbers: Numbers) -> None:
        """Fits the scale on the actions of all training windows, and bins on what becomes of them."""
        if self.reference is None:
            self.take(*numbers.acted(self.per_step, self.scale.levels))
        else:
            self.fit_parts(lambda: (self._measured(part["action"], part) for part in numbers.parts()))

    def _measured(self, action: Tensor, obs: Mapping[str, Tensor]) -> tuple[Array, Array]:
        return self.values(action, obs).numpy(), self.size(action, obs).numpy()

    def fit_parts(self, parts: Parts) -> None:
        """The same of values that come part by part, as `Scaled.fit_parts` takes them."""
        self.take(*self.scale.summary(parts))

    def take(self, found: Summary, quantiles: Array | None = None, size: Array | float = 0.0) -> None:
        """The same from statistics that were found already, as `Scaled.take`."""
        self.scale.take(found, quantiles, size)
        if self.bins is not None and math.isinf(self.end):
            ends = torch.from_numpy(np.stack([found.low, found.high])).float()
            self.bins.fit(self.scale.encode(ends).reshape(-1, self.bins.width))

    def relative(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, H, A) as seen from the robot's present position, or as they are."""
        if not self.reference:
            return action
        x = action - self._origin(action, obs)
        return along(x, self._ahead(obs)) if self.frame else x

    def values(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """What the scale is fitted on: (B, H A) with statistics per step, else (B H, A)."""
        x = self.relative(action, obs)
        return x.flatten(1) if self.per_step else x.flatten(0, 1)

    def size(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Largest magnitude of the numbers that `values` are computed from, () or one for each of its columns."""
        if not self.reference:
            return torch.zeros(())
        largest = torch.maximum(action.abs().amax((0, 1)), obs[self.reference].abs().amax((0, 1)))
        # Turning mixes the axes.
        largest = largest.amax().expand_as(largest) if self.frame else largest
        return largest.repeat(action.shape[1]) if self.per_step else largest

    def encode(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Raw actions (B, H, A) to model space: (B, H, A), or (B, H A) ids with bins."""
        x = self.relative(action, obs)
        x = self.scale.encode(x.flatten(1)).view_as(x) if self.per_step else self.scale.encode(x)
        if self.bins is not None:
            return self.bins.encode(x)
        return nn.functional.pad(x, (0, self.pad)) if self.pad else x

    def decode(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Model space to raw actions (B, H, A)."""
        if self.bins is not None:
            x = self.bins.decode(x)
        if self.pad:
            x = x[..., : -self.pad]
        x = self.scale.decode(x.flatten(1)).view_as(x) if self.per_step else self.scale.decode(x)
        if not self.reference:
            return x
        return (back(x, self._ahead(obs)) if self.frame else x) + self._origin(x, obs)

    def weight(self, is_pad: Tensor | None) -> Tensor | None:
        """Which entries of x count in a loss: (B, H), or (B, H, A) where width is padded; None: all of them."""
        counted = None if is_pad is None or not self.mask_padding else ~is_pad
        if not self.pad or is_pad is None:
            return counted
        real = torch.arange(self.width + self.pad, device=is_pad.device) < self.width
        return real & (~is_pad if self.mask_padding else torch.ones_like(is_pad))[..., None]

    def known(self, known: Known, obs: Mapping[str, Tensor], *, first: int, horizon: int) -> Known:
        """What is known of a plan in the robot's units, its first row `first` rows into the horizon, in model space.

        Rows that are not known repeat the nearest known one with weight 0. Raises ValueError for steps in the past or
        beyond the horizon, of another width, or not finite, and for weights outside of 0 to 1.
        """
        value, weight = known.value, known.weight
        if known.start < 0:
            raise ValueError(f"known.start: expected steps from now on, 0 or more, found {known.start}, in the past")
        if value.dim() != 3 or value.shape[-1] != self.width:
            raise ValueError(f"known.value: expected (B, n, {self.width}), found {tuple(value.shape)}")
        if weight.shape != value.shape:
            raise ValueError(
                f"known.weight: expected {tuple(value.shape)}, as the value's, found {tuple(weight.shape)}"
            )
        if not bool(((weight >= 0) & (weight <= 1)).all()):
            raise ValueError("known.weight: expected numbers from 0 (unknown) to 1 (fixed), found others")
        if not bool(value[weight > 0].isfinite().all()):
            raise ValueError("known.value: expected finite numbers where the weight is over 0, found nan or inf")
        value = torch.where(weight > 0, value, 0.0)
        before = first + known.start
        after = horizon - before - value.shape[1]
        if not value.shape[1] or after < 0:
            raise ValueError(f"known.value: expected 1 to {horizon - before} steps, found {value.shape[1]}")
        rows = torch.arange(-before, value.shape[1] + after, device=value.device).clamp(0, value.shape[1] - 1)
        x = self.encode(value[:, rows], obs)
        weight = nn.functional.pad(weight, (0, 0, before, after))
        if self.bins is not None:
            return Known(x, weight.flatten(1))
        return Known(x, nn.functional.pad(weight, (0, self.pad)))

    def _ahead(self, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, 1 or T, 2) heading at the step that actions are relative to."""
        assert self.frame is not None
        if self.frame not in obs:
            raise ValueError(f"relative actions: expected feature {self.frame!r}, found {sorted(obs)}")
        return heading(obs[self.frame] if self.stepwise else obs[self.frame][:, -1:])

    def _origin(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        assert self.reference is not None
        if self.reference not in obs:
            raise ValueError(f"relative actions: expected feature {self.reference!r}, found {sorted(obs)}")
        origin = obs[self.reference] if self.stepwise else obs[self.reference][:, -1:]
        if origin.shape[-1] != action.shape[-1]:
            raise ValueError(
                f"{self.reference}: expected the width of the action, {action.shape[-1]}, found {origin.shape[-1]}"
            )
        return origin
