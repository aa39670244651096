"""Where a solver stops between noise and data: pairs (now, then) of times, n of them, the last `then` being the result.

Continuous grids suit every continuous path; `Indices` lists a table's indices the way `diffusers` 0.42 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from nextmove.config import ConfigError
from nextmove.decoders.paths import DiscreteVP, Path

Pairs = list[tuple[float, float]]


@dataclass(frozen=True)
class EvenTime:
    """n equal steps in t from `start` to `end`, noise time 1 - t bent by `shift` k: s' = k s / (1 + (k - 1) s).

    k > 1 spends more steps near the noise (Esser et al. 2024, eq. 23).
    """

    start: float = 0.0
    end: float = 1.0
    shift: float = 1.0

    def pairs(self, path: Path, n: int) -> Pairs:
        """n steps from t = start to t = end."""
        s = 1 - np.linspace(self.start, self.end, n + 1)
        pairs = _chain(1 - self.shift * s / (1 + (self.shift - 1) * s))
        if isinstance(path, DiscreteVP) and any(path.node(now).b == 0 for now, _ in pairs):
            raise ConfigError(f"steps: expected fewer than {n}, so many that none begins at the table's clean data")
        return pairs


@dataclass(frozen=True)
class EvenLambda:
    """Equal steps in log(a / b) between `start` and `end`, where it is finite; then, if `finish`, one to clean data.

    The first network call is made at `start`, on noise scaled as there.
    """

    start: float = 1e-3
    end: float = 1 - 1e-3
    finish: bool = True

    def pairs(self, path: Path, n: int) -> Pairs:
        """n steps; with `finish` the last goes from t = end to t = 1."""
        _continuous(path)
        first, last = path.lam(torch.tensor([self.start, self.end], dtype=torch.float64)).tolist()
        if not np.isfinite(first - last):
            raise ConfigError(f"grid: start and end need finite log(a / b), found {first:g} and {last:g}")
        lam = np.linspace(first, last, n if self.finish else n + 1)
        return _chain(_times(path, lam), self.finish)


@dataclass(frozen=True)
class Karras:
    """Noise levels sigma = b / a even in sigma^(1/rho), then clean data (Karras et al. 2022, eq. 5)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def pairs(self, path: Path, n: int) -> Pairs:
        """n steps, the last from sigma_min to 0."""
        _continuous(path)
        ends = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return _chain(_times(path, -self.rho * np.log(np.linspace(*ends, n))), True)


@dataclass(frozen=True)
class Indices:
    """n of a table's T indices, descending, then clean data.

    spacing: leading = multiples of T // n; trailing = T - 1 downwards by T / n; linspace = T - 1 and 0 included (Lin et
    al. 2024, table 2). `offset` is added to leading indices. `spare` counts one index more and drops it, as
    DPM-Solver++ does (leading and linspace). `ratio` steps from i to i - T // n instead of to the next listed index, as
    `diffusers`' DDIM does whatever the spacing. `end`: clean data (alpha_bar = 1) or the table's first level.
    """

    spacing: Literal["leading", "trailing", "linspace"] = "leading"
    offset: int = 0
    spare: bool = False
    ratio: bool = False
    end: Literal["clean", "first"] = "clean"

    def indices(self, T: int, n: int) -> list[int]:
        """The indices at which the network is called."""
        extra = n + 1 if self.spare else n
        if self.spacing == "trailing":
            # Rounding may make the list one longer.
            return [int(i) - 1 for i in np.round(np.arange(T, 0, -T / n))[:n]]
        if self.spacing == "linspace":
            listed = np.linspace(0, T - 1, extra).round()
        else:
            listed = np.arange(extra, dtype=float) * (T // extra) + self.offset
        return [int(i) for i in listed[::-1][:n]]

    def pairs(self, path: Path, n: int) -> Pairs:
        """n steps; the last `then` is t = 1, or that of index 0 with end = "first"."""
        if not isinstance(path, DiscreteVP):
            raise ConfigError(f"grid: Indices needs the path DiscreteVP, found {type(path).__name__}")
        most = path.T - 1 if self.spare and self.spacing != "trailing" else path.T
        if n > most:
            raise ConfigError(f"steps: expected at most {most} of the table's {path.T} indices, found {n}")
        now = self.indices(path.T, n)
        if now[0] >= path.T:
            raise ConfigError(f"grid.offset: the first index must be below {path.T}, found {now[0]}")
        then = [i - path.T // n for i in now] if self.ratio else [*now[1:], -1]
        least = -1 if self.end == "clean" else 0
        then = [i if i >= 0 else least for i in then]
        return [(path.time(i), path.time(j)) for i, j in zip(now, then, strict=True)]


Grid = EvenTime | EvenLambda | Karras | Indices


def _continuous(path: Path) -> None:
    if isinstance(path, DiscreteVP):
        raise ConfigError("grid: a grid of noise levels needs a continuous path, found DiscreteVP; use Indices")


def _times(path: Path, lam: np.ndarray) -> np.ndarray:
    times = path.time_of(torch.from_numpy(lam)).numpy()
    if times.min() < -1e-6:
        raise ConfigError(f"grid: its noisiest level is above that of {type(path).__name__} at t = 0")
    return times.clip(0, 1)


def _chain(times: np.ndarray, finish: bool = False) -> Pairs:
    stops = [*times.tolist(), 1.0] if finish else times.tolist()
    return list(pairwise(stops))
