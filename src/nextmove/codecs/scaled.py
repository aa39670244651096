"""Scaling by statistics of the data, each of them named; what was not fitted does not encode.

Shapes: N values, D width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nextmove.contracts.summary import Array, Summary

_log = logging.getLogger(__name__)

Parts = Callable[[], Iterable[tuple[Array, Array | float]]]
"""Values (N, D) part by part, each with its `size`; called again where they are needed again."""
GATHERED = 1 << 25
"""Numbers of which quantiles are taken at once."""
Mode = Literal["identity", "mean_std", "min_max", "quantiles", "quantile10"]
STATISTICS: dict[str, tuple[str, str]] = {
    "identity": ("", ""),
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantiles": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
}
LEVELS: dict[str, tuple[float, float]] = {"min_max": (0.0, 1.0), "quantiles": (0.01, 0.99), "quantile10": (0.1, 0.9)}
BUFFERS = ("shift", "scale", "offset", "back_shift", "back_scale")
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Share of a number's own size below which a difference is no more than float32's rounding."""


def end(mode: str) -> float:
    """Largest magnitude of the data in model space, infinite where a mode sets it no end."""
    return 1.0 if mode == "min_max" else math.inf


def constant(low: Array, high: Array, size: Array | float = 0.0) -> NDArray[np.bool_]:
    """Where the range [low, high] of a dimension is nothing beside its own size: a few units in the last place.

    size: magnitude of what the numbers were computed from, where that is larger (differences keep its rounding).
    """
    extent = np.asarray(high, np.float64) - np.asarray(low, np.float64)
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), size)
    return np.asarray((extent <= ROUNDING * largest) | (extent < float(np.finfo(np.float32).tiny)))


class Scaled(nn.Module):
    """x = (raw - shift) / scale + offset over the last dimension; `mean_std` to unit spread, others onto [-1, 1].

    Statistics come from `fit` (data) or `set` (another project's numbers) and are saved as buffers; encoding before
    that raises. What lies outside the fitted range is not clipped. A dimension that is constant in the data says
    nothing: it is encoded as 0 and decoded as its value, whatever x is. Decoding has numbers of its own, since files
    of other projects may hold different statistics for the two directions.
    """

    shift: Tensor
    scale: Tensor
    offset: Tensor
    back_shift: Tensor
    back_scale: Tensor

    def __init__(self, width: int, *, mode: Mode = "mean_std", name: str = "values", clip: bool = False) -> None:
        """clip: what is encoded is cut to [-1, 1] (OpenVLA; Kim et al. 2024, section 3.2)."""
        super().__init__()
        if mode not in STATISTICS:
            raise ValueError(f"mode: expected one of {', '.join(STATISTICS)}; found {mode!r}")
        if clip and mode == "mean_std":
            raise ValueError("clip: expected a mode whose data lie in [-1, 1], found mean_std")
        self.width, self.mode, self.name, self.clip = width, mode, name, clip
        for buffer in BUFFERS:
            # NaN marks what was never fitted.
            value = float(buffer.endswith("scale")) if mode == "identity" else torch.nan
            self.register_buffer(buffer, torch.full((width,), value))
        self._ready = mode == "identity"
        self.still: list[int] = []
        """Dimensions whose quantiles `set` found equal: they are shifted, not divided."""

    @property
    def end(self) -> float:
        """Largest magnitude of the fitted data in model space, infinite where the mode sets it no end."""
        return 1.0 if self.clip else end(self.mode)

    def fit(self, values: Array, *, size: Array | float = 0.0) -> list[int]:
        """Statistics of `values` (N, D), exact, in float64; returns the dimensions that are `constant`.

        size: as `constant` takes it, () or (D,). Quantiles that are one number although the dimension moves (a gripper
        that is seldom closed) give way to its smallest and largest number. Raises ValueError for NaN or infinity,
        naming the dimension, and for another width.
        """
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != self.width or not len(values):
            raise ValueError(f"{self.name}: expected values of shape (N, {self.width}), found {values.shape}")
        bad = ~np.isfinite(values)
        if bad.any():
            row, dim = map(int, np.argwhere(bad)[0])
            raise ValueError(f"{self.name}[{dim}]: expected finite values, found {values[row, dim]} in row {row}")
        return self.fit_parts(lambda: [(values, size)])

    def fit_parts(self, parts: Parts) -> list[int]:
        """The same of values that come part by part, each with its size; they are gone through again for quantiles.

        Needs memory for one part, and for quantiles for some dimensions of all of them at a time.
        """
        return self.take(*self.summary(parts))

    def summary(self, parts: Parts) -> tuple[Summary, Array | None, Array]:
        """What `take` asks for, of values that come part by part."""
        found, largest = Summary.none(self.width), np.zeros(self.width)
        for values, size in parts():
            found, largest = found + Summary.of(np.asarray(values)), np.maximum(largest, size)
        return found, self._quantiles(parts, found) if self.levels else None, largest

    @property
    def levels(self) -> tuple[float, float] | None:
        """The quantiles that are needed, if any."""
        return LEVELS.get(self.mode) if self.mode != "min_max" else None

    def _quantiles(self, parts: Parts, found: Summary) -> Array:
        """(2, D) exact: every group of dimensions is gathered on its own."""
        group = max(1, int(GATHERED // found.count))
        columns = []
        for first in range(0, self.width, group):
            gathered = np.concatenate([np.asarray(values)[:, first : first + group] for values, _ in parts()])
            columns += [np.quantile(column.astype(np.float64), self.levels or ()) for column in gathered.T]
        return np.stack(columns, 1)

    def take(self, found: Summary, quantiles: Array | None = None, size: Array | float = 0.0) -> list[int]:
        """Statistics that were found already, with the quantiles (2, D) at `levels` if there are such; see `fit`."""
        if self.mode == "identity":
            return []
        if not found.count or len(found.mean) != self.width:
            raise ValueError(
                f"{self.name}: expected values of width {self.width}, found {found.count:.0f} of {len(found.mean)}"
            )
        bad = np.flatnonzero(~(np.isfinite(found.low) & np.isfinite(found.high)))
        if len(bad):
            raise ValueError(f"{self.name}[{bad[0]}]: expected finite values, found NaN or infinity")
        low, high = found.low, found.high
        flat = constant(low, high, size)
        if self.mode == "mean_std":
            shift, scale, offset = found.mean, found.std, np.zeros(self.width)
        else:
            first, last = (low, high) if quantiles is None else quantiles
            narrow = constant(first, last, size)
            first, last = np.where(narrow, low, first), np.where(narrow, high, last)
            shift, scale, offset = first, (last - first) / 2, np.full(self.width, -1.0)
        # A constant: 0 on the way in, its value on the way back.
        value = low + (high - low) / 2
        shift, offset = np.where(flat, value, shift), np.where(flat, 0.0, offset)
        way_in, back = np.where(flat, np.inf, scale), np.where(flat, 0.0, scale)
        self._store(*(torch.from_numpy(part).float() for part in (shift, way_in, offset, shift, back)))
        still = [int(dim) for dim in np.flatnonzero(flat)]
        if still:
            _log.info("%s: dimensions %s are constant; decoded as their value", self.name, still)
        return still

    def set(
        self,
        stats: Mapping[str, Any],
        *,
        back: Mapping[str, Any] | None = None,
        eps: float = 1e-8,
        legacy: bool = False,
    ) -> None:
        """Statistics as LeRobot stores them ("mean" and "std", "min" and "max", "q01" and "q99", ...), its formulas.

        back: those of the way back, if they differ. eps is added to a spread when encoding and stands for a range of
        0 where least and largest are equal; where quantiles are, numbers are shifted and not divided (`still`).
        `legacy` has the formulas of releases up to 0.3.3, where it is added to the range, when encoding only.
        Raises ValueError naming an absent, misshapen or infinite statistic.
        """
        if self.mode == "identity":
            return
        back = stats if back is None else back
        first, second = (self._statistic(stats, key) for key in STATISTICS[self.mode])
        back_first, back_second = (self._statistic(back, key) for key in STATISTICS[self.mode])
        if self.mode == "mean_std":
            return self._store(first, second + eps, torch.zeros_like(first), back_first, back_second)
        width, back_width = second - first, back_second - back_first
        if legacy:
            width = width + eps
        else:
            flat = width == 0
            width, back_width = (torch.where(w == 0, torch.full_like(w, eps), w) for w in (width, back_width))
            if self.mode in ("quantiles", "quantile10"):
                # What moves a little beyond its quantiles is no number of the size of 1 / eps.
                width = torch.where(flat, 2.0, width)
                self.still = [int(dim) for dim in flat.nonzero()]
        # Halving is exact, so these are 2 (raw - first) / width - 1 and (x + 1) width / 2 + first to the last bit.
        self._store(first, width / 2, torch.full_like(first, -1.0), back_first, back_width / 2)

    def set_ranges(self, low: Array, high: Array, scaled: Array, *, eps: float = 1e-8) -> list[int]:
        """[low, high] (D,) to [-1, 1] where `scaled` (D,) bool, elsewhere numbers as they are; OpenVLA's formulas.

        A range of 0 is shifted, not divided by, and decoded as its value; returns those dimensions. eps is added to a
        range when encoding. Raises ValueError for statistics of another width, or not finite.
        """
        parts = {"low": np.asarray(low, np.float64), "high": np.asarray(high, np.float64)}
        for key, value in {**parts, "mask": np.asarray(scaled)}.items():
            if value.shape != (self.width,):
                raise ValueError(f"{self.name}.{key}: expected {self.width} values, found shape {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{self.name}.{key}: expected finite values, found {value.tolist()}")
        low, extent = parts["low"], parts["high"] - parts["low"]
        flat = extent == 0
        shift, way_in = np.where(scaled, low, 0.0), np.where(scaled & ~flat, (extent + eps) / 2, 1.0)
        offset = np.where(scaled & ~flat, -1.0, 0.0)
        back = np.where(scaled, extent / 2, 1.0)
        self._store(*(torch.from_numpy(part).float() for part in (shift, way_in, offset, shift, back)))
        return [int(dim) for dim in np.flatnonzero(flat & np.asarray(scaled, bool))]

    def affine(self, scale: Tensor, offset: Tensor) -> None:
        """The map x = raw * scale + offset, both (D,), of another project."""
        zero = torch.zeros_like(offset)
        self._store(zero, 1 / scale, offset, zero, 1 / scale)

    def encode(self, raw: Tensor) -> Tensor:
        """Data (..., D) to model space."""
        self._check(raw)
        x = (raw - self.shift) / self.scale + self.offset
        return x.clamp(-1, 1) if self.clip else x

    def decode(self, x: Tensor) -> Tensor:
        """Model space (..., D) to data."""
        self._check(x)
        return (x - self.offset) * self.back_scale + self.back_shift

    def _statistic(self, stats: Mapping[str, Any], key: str) -> Tensor:
        if key not in stats:
            raise ValueError(f"{self.name}.{key}: expected this statistic for {self.mode}, found {sorted(stats)}")
        value = torch.as_tensor(stats[key], dtype=torch.float32).flatten()
        if value.numel() != self.width:
            raise ValueError(f"{self.name}.{key}: expected {self.width} values, found {value.numel()}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{self.name}.{key}: expected finite values, found {value.tolist()} (never initialised?)")
        return value

    def _store(self, *parts: Tensor) -> None:
        for name, part in zip(BUFFERS, parts, strict=True):
            getattr(self, name).copy_(part)
        self._ready = True

    def _check(self, values: Tensor) -> None:
        if values.shape[-1] != self.width:
            raise ValueError(f"{self.name}: expected width {self.width}, found {values.shape[-1]}")
        if not self._ready:
            # Statistics may also have come by load_state_dict; looked at once, since it costs a synchronisation.
            if any(torch.isnan(getattr(self, name)).any() for name in BUFFERS):
                raise ValueError(f"{self.name}: {self.mode} statistics are absent; fit them or load them first")
            self._ready = True
