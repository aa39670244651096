"""Plots as SVG text that takes its colours and typeface from the page, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

SERIES = 8
"""Colours before they repeat."""
INK, MUTED, GRID = "#010101", "#020202", "#030303"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line"}
_VARIABLES |= {f"#0{i}0a0a": f"--p{i}" for i in range(SERIES)}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
}


def color(i: int) -> str:
    """A placeholder for the page's colour of the `i`th policy."""
    return f"#0{i % SERIES}0a0a"


def svg(
    name: str,
    label: str,
    draw: Callable[[Any], None],
    *,
    height: float,
    width: float = 5.6,
    grid: tuple[int, int] = (1, 1),
) -> str:
    """One figure as an <svg> element without addresses; `name` keeps its ids apart from those of other figures.

    `draw` is handed the axes; of a `grid` of rows and columns, an array of them.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots(*grid))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r'\bid="([\w.]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return text


def standalone(svg: str) -> str:
    """A figure as a file of its own, in the page's colours."""
    css = files("nextmove.evaluation").joinpath("templates", "report.css").read_text()
    colours = css[: css.index("* {")]
    own = f"<style>{colours} svg {{ background: var(--card); font-family: sans-serif }}</style>"
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg ", f"<svg {space} ", 1).replace(">", f">{own}", 1)


def _tall(rows: Any) -> float:
    """Inches for a plot with a row for each policy; its neighbour is as tall."""
    return max(2.9, 0.95 + 0.3 * len(rows))


def _line(order: Sequence[str], name: str) -> dict[str, Any]:
    """Colour and, once the colours repeat, dashes of a policy's line."""
    i = order.index(name)
    return {"color": color(i), "ls": ("-", "--", ":")[i // SERIES % 3], "label": name}


def _legend(axes: Any, lines: int, place: str) -> None:
    """Inside while it is short, else beside the plot."""
    if lines > 5:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    else:
        axes.legend(loc=place)


def success_plot(policies: Mapping[str, Any], order: Sequence[str]) -> str:
    """Success rates with their intervals, one row a policy."""

    def draw(axes: Any) -> None:
        for row, (name, policy) in enumerate(policies.items()):
            r, c = policy["success"], color(order.index(name))
            axes.plot([100 * r["low"], 100 * r["high"]], [row, row], color=c, lw=5, alpha=0.35, solid_capstyle="round")
            axes.plot(100 * r["rate"], row, "o", color=c, ms=7.5)
        axes.set(yticks=range(len(policies)), yticklabels=list(policies), ylim=(len(policies) - 0.4, -0.6))
        axes.set(xlim=(-2, 102), xlabel="success rate, % of episodes")
        axes.grid(False, axis="y")

    return svg("success", "Success rates with intervals", draw, height=_tall(policies))


def efficiency_plot(rates: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Success rates, with intervals, over the number of demonstrations each policy was trained on."""
    order = list(rates)

    def draw(axes: Any) -> None:
        sizes = sorted({n for found in rates.values() for n in found})
        for i, (name, found) in enumerate(rates.items()):
            # Intervals of one size stand side by side.
            x = np.array(sorted(found)) * 1.035 ** (i - (len(rates) - 1) / 2)
            rate, low, high = (
                np.array([100 * found[n][key] for n in sorted(found)]) for key in ("rate", "low", "high")
            )
            axes.plot(x, rate, "o", ls=_line(order, name)["ls"], color=color(i), lw=1.8, ms=5.5, label=name)
            axes.vlines(x, low, high, color=color(i), lw=3.5, alpha=0.35)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(n) for n in sizes], minor=False)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="demonstrations", ylabel="success rate, % of episodes", ylim=(-2, 102))
        _legend(axes, 9, "")

    return svg("efficiency", "Success by number of demonstrations", draw, height=3.6, width=6.6)


def calls_plot(curves: Mapping[str, Sequence[tuple[float, float]]], quality: str) -> str:
    """A measure of quality over the number of network calls that a sample takes, one line a system and solver."""
    order = list(curves)

    def draw(axes: Any) -> None:
        for name, points in curves.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", lw=1.8, ms=5, **_line(order, name))
        calls, found = zip(*(point for points in curves.values() for point in points), strict=True)
        _decades(axes, "x", min(calls), max(calls))
        _decades(axes, "y", min(found), max(found))
        axes.set(xlabel="network calls for a sample", ylabel=quality)
        _legend(axes, 9, "")

    return svg("calls", "Quality by network calls", draw, height=3.6, width=6.6)


def reward_plot(policies: Mapping[str, Any], order: Sequence[str]) -> str:
    """Cumulative share of episodes by max reward: further right and lower is better."""

    def draw(axes: Any) -> None:
        rewards = [[e["max_reward"] for e in p["episodes"] if e["max_reward"] is not None] for p in policies.values()]
        values = np.concatenate(rewards)
        low, high = float(values.min()), float(values.max())
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
        for name, reward in zip(policies, rewards, strict=True):
            share = 100 * np.arange(1, len(reward) + 1) / len(reward)
            axes.step([low, *np.sort(reward), high], [0, *share, 100], where="post", lw=1.8, **_line(order, name))
        axes.set(xlabel="max reward of the episode", ylabel="episodes up to here, %", ylim=(0, 102))
        axes.set_xlim(low, low + 1.01 * (high - low or 1))
        _legend(axes, len(policies), "upper left")

    return svg("reward", "Cumulative distribution of max reward", draw, height=_tall(policies))


def latency_plot(latencies: Mapping[str, Sequence[float]], order: Sequence[str]) -> str:
    """Every timed plan, with median and 99th percentile marked."""

    def draw(axes: Any) -> None:
        for row, (name, ms) in enumerate(latencies.items()):
            c = color(order.index(name))
            spread = 0.26 * np.sin(12.9898 * np.arange(len(ms)))
            axes.plot(ms, row + spread, "o", color=c, ms=2.6, alpha=0.45, mew=0)
            for q, width in ((50, 2.6), (99, 1.4)):
                axes.plot([np.percentile(ms, q)] * 2, [row - 0.36, row + 0.36], color=c, lw=width)
        axes.set(yticks=range(len(latencies)), yticklabels=list(latencies), ylim=(len(latencies) - 0.4, -0.6))
        values = np.concatenate([np.asarray(ms) for ms in latencies.values()])
        _decades(axes, "x", float(values.min()), float(values.max()))
        axes.set_xlabel("time per plan, ms (thick: median, thin: 99th percentile)")
        axes.grid(False, axis="y")

    return svg("latency", "Time per plan", draw, height=_tall(latencies))


def training_plot(curves: Mapping[str, Mapping[str, Sequence[float]]], order: Sequence[str]) -> str:
    """Training loss over steps; the losses of different decoders are not comparable with each other."""

    def draw(axes: Any) -> None:
        for name, curve in curves.items():
            axes.plot(curve["step"], curve["loss"], lw=1.6, **_line(order, name))
        values = np.concatenate([np.asarray(curve["loss"]) for curve in curves.values()])
        if values.min() > 0:
            _decades(axes, "y", float(values.min()), float(values.max()))
        axes.set(xlabel="optimiser steps", ylabel="training loss")
        axes.set_xlim(left=0)
        _legend(axes, len(curves), "upper right")

    return svg("training", "Training loss", draw, height=_tall(curves))


def _decades(axes: Any, which: str, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 (only 1 where many decades are shown)."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())
    getattr(axes, f"set_{which}lim")(low * 0.75, high * 1.33)
