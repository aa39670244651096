"""The report: a self-contained report.html and, for programs, report.json."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextmove.evaluation import pages, plots
from nextmove.evaluation.beside import labels, worst_dims
from nextmove.evaluation.entry import Entry, unfinished
from nextmove.evaluation.film import COLUMNS
from nextmove.evaluation.intervals import wilson
from nextmove.evaluation.keys import Key, by_task, episodes, ranges
from nextmove.evaluation.offline_plots import PANELS, TOGETHER, error_plot, trajectory_plot
from nextmove.evaluation.summary import LEVEL, rate_json, summarise
from nextmove.evaluation.trajectory import LONGEST
from nextmove.host.files import write_json, write_text


def write_report(
    entries: Sequence[Entry],
    out: str | Path,
    *,
    title: str,
    task: str = "",
    tasks: Mapping[str, str] | None = None,
    unit: str = "unit",
    commands: Sequence[str] = (),
    notes: str = "",
    caution: str = "",
    data: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Writes `report.html` and `report.json` into `out`, each whole or not at all; returns the latter's content.

    Args:
        entries: The policies, each with its own name.
        task: One sentence: what has to be done and what counts as success.
        tasks: Of several tasks the instruction of each, by its name.
        unit: Of the actions, for jerk and errors.
        commands: What makes this report again.
        caution: What has to be known before the verdict is believed; it ends the verdict.
        data: What they were judged on, for programs.
        versions: Of the simulator's packages, beside those that every report names.
    """
    out = Path(out)
    stopped = [f"{e.name} is not finished: {why}." for e in entries if (why := unfinished(e.facts))]
    caution = " ".join([caution, *stopped]).strip()
    texts = {"title": title, "task": task, "tasks": dict(tasks or {}), "commands": list(commands), "notes": notes}
    texts["data"] = dict(data or {})
    summary = summarise(entries, confidence=confidence, unit=unit, caution=caution, versions=versions, **texts)
    page = render(summary, entries)
    write_json(out / "report.json", summary, indent=1, allow_nan=False)
    write_text(out / "report.html", page)
    return summary


def render(summary: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """The page: it asks nothing of any network, its images and videos lie within."""
    filters: dict[str, Any] = {
        "num": _number, "count": _count, "signed": _signed, "p": _p, "seeds": ranges, "episodes": in_words,
    }  # fmt: skip
    table = {name: summary["policies"][name] for name in summary["best_first"]}
    played = {n: {(e["task"], e["seed"]): e for e in p["episodes"]} for n, p in table.items() if p["success"]}
    keys = sorted({key for found in played.values() for key in found}, key=_ordered(list(summary["tasks"])))
    return pages.page(
        "report",
        filters,
        s=summary,
        policies=table,
        played=played,
        keys=keys,
        tasks=[task for task in by_task(keys) if task],
        facts=_facts(table),
        level=LEVEL,
        series=plots.SERIES,
        matrix=_matrix(summary),
        videos=_videos(entries, list(table)),
        plots=_plots(table),
        beside={n: p["offline"]["beside"] for n, p in table.items() if p["offline"] and p["offline"]["beside"]},
        drawn=_drawn(entries, list(table)),
        longest_drawn=LONGEST,
        film_columns=COLUMNS,
    )


def _ordered(tasks: Sequence[str]) -> Callable[[Key], tuple[int, str, int]]:
    """Sorts episodes by the order of these tasks, others after them by name, then by seed."""
    return lambda key: (tasks.index(key[0]) if key[0] in tasks else len(tasks), *key)


def in_words(keys: Sequence[Key]) -> str:
    """The episodes as text, seeds that all tasks share once: 2 tasks, each with seeds 0–9."""
    found = by_task(keys)
    if len({tuple(seeds) for seeds in found.values()}) == 1:
        seeds = next(iter(found.values()))
        these = f"{'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)}"
        return these if len(found) == 1 else f"{len(found)} tasks, each with {these}"
    return episodes(keys)


def _plots(table: Mapping[str, Any]) -> dict[str, Any]:
    """The figures there are data for, ready to be put into the page."""
    from markupsafe import Markup

    order = list(table)
    played = {n: p for n, p in table.items() if p["success"]}
    curves = {n: p["curve"] for n, p in table.items() if p["curve"] and p["curve"]["step"]}
    latencies = {n: p["latency"]["ms"] for n, p in table.items() if p["latency"]}
    beside = {n: p["offline"]["beside"] for n, p in table.items() if p["offline"] and p["offline"]["beside"]}
    drawn = dict.fromkeys(("success", "reward", "efficiency", "latency", "training", "error"), "")
    if played:
        drawn |= {"success": plots.success_plot(played, order), "reward": plots.reward_plot(played, order)}
    if rates := by_demonstrations(played):
        drawn["efficiency"] = plots.efficiency_plot(rates)
    if latencies:
        drawn["latency"] = plots.latency_plot(latencies, order)
    if curves:
        drawn["training"] = plots.training_plot(curves, order)
    if beside:
        drawn["error"] = error_plot(beside, order)
    # Markup is safe here: matplotlib escapes the texts it draws.
    return {name: Markup(text) for name, text in drawn.items()}


def _drawn(entries: Sequence[Entry], order: Sequence[str]) -> dict[int, Any]:
    """Pictures of plans along demonstrated episodes, by number, of the best policies that were drawn on one."""
    from markupsafe import Markup

    found: dict[int, dict[str, Any]] = {}
    films: dict[int, dict[str, Any]] = {}
    dims, names = None, []
    for entry in sorted(entries, key=lambda entry: order.index(entry.name)):
        if entry.offline is None or entry.offline.beside is None:
            continue
        dims, names = dims or worst_dims(entry.offline.beside, PANELS), labels(entry.offline.beside)
        for film in entry.offline.films:
            films.setdefault(film.episode, {}).setdefault(film.camera, film)
        for trajectory in entry.offline.trajectories:
            along = found.setdefault(trajectory.episode, {})
            if len(along) < TOGETHER:
                along[entry.name] = trajectory
    return {
        n: {
            "names": list(drawn),
            "picture": Markup(trajectory_plot(drawn, order, names, dims or [])),
            "films": list(films.get(n, {}).values()),
            "steps": len(next(iter(drawn.values())).demo),
            "fps": next(iter(drawn.values())).fps,
        }
        for n, drawn in sorted(found.items())
    }


def by_demonstrations(policies: Mapping[str, Any]) -> dict[str, dict[int, dict[str, float]]]:
    """Success of each entry of a comparison by number of demonstrations, training seeds pooled.

    Entries trained on one number only are left out.
    """
    counts: dict[str, dict[int, list[int]]] = {}
    for policy in policies.values():
        facts, success = policy["facts"], policy["success"]
        if "demonstrations" in facts:
            count = counts.setdefault(facts["entry"], {}).setdefault(facts["demonstrations"], [0, 0])
            count[0], count[1] = count[0] + success["successes"], count[1] + success["episodes"]
    return {
        entry: {n: rate_json(wilson(*count)) for n, count in sorted(found.items())}
        for entry, found in counts.items()
        if len(found) > 1
    }


def _facts(table: Mapping[str, Any]) -> list[str]:
    """Names of the short facts that any policy states."""
    found = [k for p in table.values() for k, v in p["facts"].items() if isinstance(v, str | int | float)]
    return list(dict.fromkeys(found))


def _videos(entries: Sequence[Entry], order: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Episodes with a video by policy, failures first."""
    videos = {}
    for entry in sorted(entries, key=lambda entry: order.index(entry.name)):
        recorded = sorted((e for e in entry.results if e.video), key=lambda e: e.success)
        if recorded:
            videos[entry.name] = [{"data": base64.b64encode(e.video or b"").decode(), "episode": e} for e in recorded]
    return videos


def _matrix(summary: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Comparisons by (row, column), the row's policy minus the column's."""
    cells = {}
    for c in summary["comparisons"]:
        cells[c["a"], c["b"]] = {k: c[k] for k in ("success", "max_reward", "p", "p_adjusted")} | {
            "mine": c["only_a"],
            "theirs": c["only_b"],
        }
        cells[c["b"], c["a"]] = {
            "success": _turned(c["success"]),
            "max_reward": _turned(c["max_reward"]),
            "p": c["p"],
            "p_adjusted": c["p_adjusted"],
            "mine": c["only_b"],
            "theirs": c["only_a"],
        }
    return cells


def _turned(difference: Mapping[str, float]) -> dict[str, float]:
    return {"mean": -difference["mean"], "low": -difference["high"], "high": -difference["low"]}


def _number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits without an exponent; a dash for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, int) or value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace(",", "\u202f")
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(decimals, digits + 3)}f}"


def _count(value: int | None) -> str:
    """A number of parameters, rounded, with its unit."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}\u202f{letter}"
    return str(value)


def _signed(value: float, digits: int = 0) -> str:
    text = f"{abs(value):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"
