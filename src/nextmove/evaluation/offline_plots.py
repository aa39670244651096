"""Pictures of offline judging: errors by step beside the baselines', and plans along demonstrated episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nextmove.evaluation.baselines import EXTRAPOLATE, HOLD, REPEAT
from nextmove.evaluation.beside import POLICY
from nextmove.evaluation.plots import INK, MUTED, color, svg
from nextmove.evaluation.trajectory import Trajectory

DASHES = {REPEAT: "-", HOLD: "--", EXTRAPOLATE: ":"}
COLUMNS, PANELS = 4, 32
"""Small plots side by side, and the most of them."""
TOGETHER = 2
"""Policies in one plot: more hide each other."""


def error_plot(found: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> str:
    """Error over the spread by step of the horizon, of policies (`offline.beside` of a report) and baselines."""

    def draw(axes: Any) -> None:
        longest = max(found.values(), key=lambda b: len(b["errors"][POLICY]["by_step"]))
        for name, errors in longest["errors"].items():
            if name != POLICY:
                _line(axes, errors["by_step"], label=name, color=MUTED, ls=DASHES.get(name, "-."), lw=1.3)
        for name, beside in found.items():
            i = order.index(name)
            style = ("-", "--", ":")[i // 8 % 3]
            _line(axes, beside["errors"][POLICY]["by_step"], label=name, color=color(i), ls=style, lw=2.0)
        axes.set(xlabel="step of the horizon (1 is due now)", ylabel="mean absolute error / spread of the action")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8.5)

    return svg("error", "Action error by step of the horizon beside doing nothing", draw, height=3.4, width=8.4)


def _line(axes: Any, values: Sequence[float | None], **style: Any) -> None:
    shown = np.array([np.nan if v is None else v for v in values])
    axes.plot(np.arange(1, len(shown) + 1), shown, marker="o" if len(shown) < 3 else "", ms=5, **style)


def trajectory_plot(
    drawn: Mapping[str, Trajectory], order: Sequence[str], names: Sequence[str], dims: Sequence[int]
) -> str:
    """Plans along one demonstrated episode, a small plot a joint, drawn from the step at which they begin.

    drawn: by policy, all of the same episode; names: of all joints; dims: those shown, in this order. Each plot has a
    line at its start, of the id `...now...`, that a page moves to the time it shows.
    """
    rows = -(-len(dims) // COLUMNS)
    episode = next(iter(drawn.values())).episode

    def draw(grid: Any) -> None:
        for axes, dim in zip(grid.flat, dims, strict=False):
            _joint(axes, drawn, order, dim)
            axes.set_title(names[dim], fontsize=8.5, loc="left", pad=3)
        for axes in grid.flat[len(dims) :]:
            axes.set_visible(False)
        for axes in grid.flat[max(0, len(dims) - COLUMNS) : len(dims)]:
            axes.set_xlabel("seconds", fontsize=8)

    label = f"Demonstrated and planned actions of episode {episode}"
    return svg(f"episode{episode}", label, draw, height=0.35 + 1.28 * rows, width=10.4, grid=(rows, COLUMNS))


def _joint(axes: Any, drawn: Mapping[str, Trajectory], order: Sequence[str], dim: int) -> None:
    """One joint: the demonstration in ink, repeating the last action faint, every policy's plans in its colour."""
    one = next(iter(drawn.values()))
    time = np.arange(len(one.demo)) / one.fps
    axes.plot(time, one.demo[:, dim], color=INK, lw=1.1, alpha=0.75)
    for start in one.starts[1:] if one.plans.shape[1] > 1 else ():
        stop = min(start + one.plans.shape[1], len(one.demo))
        axes.plot(time[[start, stop - 1]], [one.demo[start - 1, dim]] * 2, color=MUTED, lw=1.6, alpha=0.45)
    for name, found in drawn.items():
        plans = [_cut(found, i, dim) for i in range(len(found.starts))]
        steps, values = (np.concatenate(part) for part in zip(*plans, strict=True))
        axes.plot(steps / found.fps, values, color=color(order.index(name)), lw=1.3)
    axes.axvline(0, color=INK, lw=1.1, gid=f"now{dim}")
    axes.tick_params(labelsize=7)
    axes.grid(False)
    axes.set_xlim(0, time[-1] if len(time) > 1 else 1)


def _cut(found: Trajectory, i: int, dim: int) -> tuple[Any, Any]:
    """One plan up to the episode's end, with a gap behind it, so that plans of more than a step are not joined."""
    start = int(found.starts[i])
    values = found.plans[i, : len(found.demo) - start, dim]
    if found.plans.shape[1] == 1:
        return np.array([start]), values
    return np.append(start + np.arange(len(values)), np.nan), np.append(values, np.nan)
