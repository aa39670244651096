"""The codec of action windows: relative to the robot if asked for, scaled, and as ids for token models.

Shapes: B batch, T observation steps, H horizon, A action width, M width of what is scaled (A but for rotations).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.codecs.bins import Bins
from nextmove.codecs.edge_bins import EdgeBins
from nextmove.codecs.fast_rule import Rule
from nextmove.codecs.fast_tokens import FastTokens
from nextmove.codecs.relative import Relative
from nextmove.codecs.scaled import Parts, Scaled
from nextmove.contracts import Known, Numbers
from nextmove.contracts.summary import Array, Summary


class Actions(nn.Module):
    """Invertible map of action windows (B, H, A); its statistics describe the space it names.

    relative: what they are relative to, and how rotations are shown; if absent, actions are taken as they are, as wide
    as the scale. per_step: each step of the horizon has statistics of its own, so that near steps are not scaled by the
    spread of far ones. pad: zeros that are appended to each action, up to a width that does not depend on the robot
    (pi0's 32); they count nothing in a loss. mask_padding: steps beyond the end of an episode count nothing either.
    bins, fast: what makes ids of scaled actions, one of them at most; beside: what writes them as ids too, where a
    decoder of numbers teaches a language model to (`decoders.insulated`).
    """

    def __init__(
        self,
        scale: Scaled,
        relative: Relative | None = None,
        *,
        per_step: bool = False,
        bins: Bins | EdgeBins | None = None,
        fast: FastTokens | None = None,
        beside: FastTokens | None = None,
        pad: int = 0,
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.bins, self.fast, self.per_step = scale, bins, fast, per_step
        self.beside = beside
        self.relative = relative or Relative(scale.width)
        self.width, self.pad, self.mask_padding = self.relative.width, pad, mask_padding

    @property
    def space(self) -> str:
        """The name of the space the statistics belong to."""
        return self.relative.name

    @property
    def end(self) -> float:
        """Largest magnitude of the fitted data in model space, infinite where their scaling sets it no end."""
        return self.scale.end

    @property
    def inputs(self) -> tuple[str, ...]:
        """Features of the observation that relative actions are computed with."""
        return self.relative.inputs

    @property
    def tokens(self) -> Bins | EdgeBins | FastTokens | None:
        """What makes ids of scaled actions."""
        return self.fast if self.bins is None else self.bins

    @property
    def rule(self) -> Rule | None:
        """Which ids may follow which, where not all of them may."""
        return None if self.fast is None else self.fast.rule

    def fit(self, numbers: Numbers) -> None:
        """Fits the scale on the actions of all training windows, and bins or pieces on what becomes of them."""
        if self.relative.plain:
            self.take(*numbers.acted(self.per_step, self.scale.levels))
        else:
            self.fit_parts(lambda: (self._measured(part["action"], part) for part in numbers.parts()))
        for tokens in (self.fast, self.beside):
            if tokens is not None:
                tokens.fit(self._scaled(self.relative.apply(part["action"], part)) for part in numbers.parts())

    def _measured(self, action: Tensor, obs: Mapping[str, Tensor]) -> tuple[Array, Array]:
        return self.values(action, obs).numpy(), self.size(action, obs).numpy()

    def fit_parts(self, parts: Parts) -> None:
        """The same of values that come part by part, as `Scaled.fit_parts` takes them."""
        self.take(*self.scale.summary(parts))

    def take(self, found: Summary, quantiles: Array | None = None, size: Array | float = 0.0) -> None:
        """The same from statistics that were found already, as `Scaled.take`."""
        self.scale.take(found, quantiles, size)
        if isinstance(self.bins, Bins) and math.isinf(self.end):
            ends = torch.from_numpy(np.stack([found.low, found.high])).float()
            self.bins.fit(self.scale.encode(ends).reshape(-1, self.bins.width))

    def values(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """What the scale is fitted on: (B, H M) with statistics per step, else (B H, M)."""
        x = self.relative.apply(action, obs)
        return x.flatten(1) if self.per_step else x.flatten(0, 1)

    def size(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Largest magnitude of the numbers that `values` are computed from, () or one for each of its columns."""
        largest = self.relative.size(action, obs)
        return largest.repeat(action.shape[1]) if self.per_step and largest.dim() else largest

    def encode(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Raw actions (B, H, A) to model space: (B, H, M + pad), or (B, L) ids."""
        x = self._scaled(self.relative.apply(action, obs))
        if self.tokens is not None:
            return self.tokens.encode(x)
        return nn.functional.pad(x, (0, self.pad)) if self.pad else x

    def decode(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Model space to raw actions (B, H, A)."""
        if self.tokens is not None:
            x = self.tokens.decode(x)
        if self.pad:
            x = x[..., : -self.pad]
        x = self.scale.decode(x.flatten(1)).view_as(x) if self.per_step else self.scale.decode(x)
        return self.relative.undo(x, obs)

    def _scaled(self, x: Tensor) -> Tensor:
        return self.scale.encode(x.flatten(1)).view_as(x) if self.per_step else self.scale.encode(x)

    def weight(self, is_pad: Tensor | None) -> Tensor | None:
        """Which entries of x count in a loss: (B, H), or (B, H, M + pad) where width is padded; None: all of them."""
        counted = None if is_pad is None or not self.mask_padding else ~is_pad
        if not self.pad or is_pad is None:
            return counted
        real = torch.arange(self.relative.made + self.pad, device=is_pad.device) < self.relative.made
        return real & (~is_pad if self.mask_padding else torch.ones_like(is_pad))[..., None]

    def known(self, known: Known, obs: Mapping[str, Tensor], *, first: int, horizon: int) -> Known:
        """What is known of a plan in the robot's units, its first row `first` rows into the horizon, in model space.

        Rows that are not known repeat the nearest known one with weight 0. Raises ValueError for steps in the past or
        beyond the horizon, of another width, or not finite, for weights outside of 0 to 1, and with FAST.
        """
        if self.fast is not None:
            raise ValueError("known: expected none, for each of FAST's ids says something of all steps, found some")
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
        weight = self.relative.known(nn.functional.pad(weight, (0, 0, before, after)))
        if self.bins is not None:
            return Known(x, self.bins.by_id(weight))
        return Known(x, nn.functional.pad(weight, (0, self.pad)))
