"""The content of a report as plain data: report.json, from which the page is rendered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np

from nextmove.evaluation.beside import beside_json
from nextmove.evaluation.entry import Entry, offline_json
from nextmove.evaluation.episode import EpisodeResult, plain
from nextmove.evaluation.intervals import Rate, wilson
from nextmove.evaluation.machine import machine
from nextmove.evaluation.machine import versions as installed
from nextmove.evaluation.offline import Offline
from nextmove.evaluation.paired import by_key, compare_all, paired_bootstrap
from nextmove.evaluation.paired_errors import paired_json

FORMAT = 1
LEVEL = 0.05


def summarise(
    entries: Sequence[Entry],
    *,
    confidence: float = 0.95,
    unit: str = "unit",
    caution: str = "",
    versions: Mapping[str, str] | None = None,
    **texts: Any,
) -> dict[str, Any]:
    """The report as plain JSON values; raises ValueError for no entry, two of one name, or one that says nothing.

    `caution` ends the verdict; `versions` of a simulator stand beside those of every report; `texts` (title, task,
    tasks, notes, commands, data) are passed on.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"entries: expected at least one, each with its own name, found {names}")
    table = {entry.name: _policy(entry, confidence) for entry in entries}
    comparisons, reason = _comparisons([entry for entry in entries if entry.results], confidence)
    beside = {e.name: e.offline.beside for e in entries if e.offline is not None and e.offline.beside is not None}
    paired = paired_json(beside, confidence)
    order = sorted(names, key=lambda name: standing(table[name], paired["means"].get(name)))
    summary = {
        "format": FORMAT,
        **texts,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "confidence": confidence,
        "unit": unit,
        "verdict": f"{verdict(order, table, comparisons, unit, confidence, paired)} {caution}".strip(),
        "best_first": order,
        "policies": table,
        "comparisons": comparisons,
        "not_compared": reason,
        "paired_errors": paired,
        "machine": machine(),
        "versions": {**installed(), **(versions or {})},
    }
    return dict(plain(summary))


def standing(policy: Mapping[str, Any], error: float | None = None) -> tuple[float, float, float]:
    """Sorts policies best first: by success, then mean max reward, then held-out error.

    error: over what all of them plan, where they are compared so.
    """
    success, held_out = policy["success"], policy["offline"]
    rate, reward = (success["rate"], policy["mean_max_reward"]) if success else (-1.0, 0.0)
    own = held_out["mae"] if held_out and held_out["mae"] is not None else np.inf
    return -rate, -reward, own if error is None or not np.isfinite(error) else error


def _policy(entry: Entry, confidence: float) -> dict[str, Any]:
    if not entry.results and entry.offline is None:
        raise ValueError(f"entry {entry.name!r}: expected episodes or held-out errors, found neither")
    by_key(entry.results, entry.name)
    facts = {k: v for k, v in entry.facts.items() if k not in ("parameters", "minutes")}
    return {
        **_outcome(entry.results, confidence),
        "tasks": {task: _outcome(found, confidence) for task, found in _by_task(entry.results).items() if task},
        **_speed(entry),
        "parameters": entry.facts.get("parameters"),
        "train_minutes": entry.facts.get("minutes"),
        "facts": facts,
        "command": entry.command,
        "offline": _offline(entry.offline),
        "curve": entry.curve,
        "episodes": [_episode(e) for e in entry.results],
    }


def _offline(found: Offline | None) -> dict[str, Any] | None:
    """Held-out errors, without the episodes that the page draws."""
    if found is None:
        return None
    values = {
        name: value for name, value in (offline_json(found) or {}).items() if name not in ("trajectories", "films")
    }
    return values | {"beside": None if found.beside is None else plain(beside_json(found.beside))}


def _outcome(results: Sequence[EpisodeResult], confidence: float) -> dict[str, Any]:
    """Results of rollouts; all None without any."""
    names = (
        "success",
        "success_at_end",
        "mean_max_reward",
        "max_reward",
        "mean_steps",
        "mean_steps_to_success",
        "jerk",
        "roughness",
    )
    if not results:
        return dict.fromkeys((*names, "mode", "fps"))
    won = [e for e in results if e.success]
    kept = [e.success_at_end for e in results if e.success_at_end is not None]
    reward = paired_bootstrap(_of(results, "max_reward"), np.zeros(len(results)), confidence=confidence)
    return {
        "success": rate_json(wilson(len(won), len(results), confidence=confidence)),
        "success_at_end": rate_json(wilson(sum(kept), len(kept), confidence=confidence)) if kept else None,
        "mean_max_reward": reward.mean,
        "max_reward": dataclasses.asdict(reward),
        "mean_steps": float(_of(results, "steps").mean()),
        "mean_steps_to_success": float(_of(won, "steps_to_success").mean()) if won else None,
        "jerk": _mean(_of(results, "jerk")),
        "roughness": _mean(_of(results, "roughness")),
        "mode": " and ".join(sorted({e.mode for e in results})),
        "fps": results[0].fps,
    }


def _by_task(results: Sequence[EpisodeResult]) -> dict[str, list[EpisodeResult]]:
    found: dict[str, list[EpisodeResult]] = {}
    for result in results:
        found.setdefault(result.task, []).append(result)
    return found


def rate_json(rate: Rate) -> dict[str, float]:
    """A rate and its interval as plain values."""
    return {name: getattr(rate, name) for name in ("successes", "episodes", "rate", "low", "high")}


def _of(results: Sequence[EpisodeResult], name: str) -> Any:
    return np.array([getattr(e, name) for e in results], np.float64)


def _mean(values: Any) -> float | None:
    """Over those that are defined."""
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else None


def _speed(entry: Entry) -> dict[str, Any]:
    """Milliseconds per plan, measured alone if that was done (then rates too), else beside the rollouts."""
    alone = entry.latency or (entry.offline.latency if entry.offline else None)
    if alone is not None:
        ms = {"p50": alone.p50, "p99": alone.p99, "calls": len(alone.ms), "first": alone.first_ms, "measured": "alone"}
        hz = {"per_replan": alone.replan_hz, "per_action": alone.action_hz}
        more = {"n_action_steps": alone.n_action_steps, "threads": alone.threads, "ms": alone.ms}
        return {"ms_per_chunk": ms, "hz": hz, "latency": more}
    times = [t for e in entry.results for t in e.ms_per_chunk]
    if not times:
        return {"ms_per_chunk": None, "hz": None, "latency": None}
    p50, p99 = np.percentile(times, [50, 99])
    ms = {"p50": p50, "p99": p99, "calls": len(times), "measured": "during rollouts"}
    return {"ms_per_chunk": ms, "hz": None, "latency": None}


def _episode(e: EpisodeResult) -> dict[str, Any]:
    ms = float(np.median(e.ms_per_chunk)) if e.ms_per_chunk else None
    names = ("task", "seed", "success", "success_at_end", "max_reward", "steps", "jerk", "roughness")
    return {**{name: getattr(e, name) for name in names}, "ms_per_chunk_p50": ms}


def _comparisons(entries: Sequence[Entry], confidence: float) -> tuple[list[dict[str, Any]], str]:
    """Every pair if all played the same seeds of the same tasks; else none and why."""
    keys = [{e.key for e in entry.results} for entry in entries]
    for (i, one), (j, other) in combinations(enumerate(keys), 2):
        if one != other:
            what = "seeds" if {task for task, _ in one} == {task for task, _ in other} else "tasks"
            return [], (
                f"{entries[i].name} and {entries[j].name} played different {what}, so their difference also holds "
                f"the luck of the draw; run all policies on the same {what} to compare them."
            )
    results = {entry.name: entry.results for entry in entries}
    return [dataclasses.asdict(c) for c in compare_all(results, confidence=confidence)], ""


def verdict(
    order: Sequence[str],
    policies: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]],
    unit: str,
    confidence: float,
    paired: Mapping[str, Any] | None = None,
) -> str:
    """One or two sentences that claim no more than the intervals and tests allow; `order` is best first."""
    first = order[0]
    success, held_out = policies[first]["success"], policies[first]["offline"]
    if not success:
        mae, windows = held_out["mae"], held_out["windows"]
        error = "not a number" if mae is None or not np.isfinite(mae) else f"{mae:.3g} {unit}"
        beside = held_out["beside"]["verdict"] if held_out["beside"] else ""
        said = f"{first} misses the demonstrated action by {error} on average over {windows} windows. {beside}".strip()
        others = [name for name in order[1:] if paired and name in paired["means"]]
        return f"{said} {_against(first, others, paired['pairs'], 'episodes')}" if others and paired else said
    rate, low, high = (f"{100 * success[name]:.0f}" for name in ("rate", "low", "high"))
    share = f"{rate} %, {100 * confidence:g} % interval {low} to {high} %"
    said = f"{first} succeeds in {success['successes']} of {success['episodes']} episodes ({share})."
    if held := at_end(policies[first]):
        said = f"{said} {held[0].upper()}{held[1:]}."
    others = [name for name in order[1:] if policies[name]["success"]]
    if not others:
        return said
    what = "episodes" if len(policies[first]["tasks"]) > 1 else "seeds"
    if not comparisons:
        return f"{said} The policies played different {what} and are not compared."
    return f"{said} {_against(first, others, comparisons, what)}"


def at_end(policy: Mapping[str, Any]) -> str:
    """How often success still holds at the end, where it can be lost again; else nothing."""
    held = policy.get("success_at_end")
    if not held:
        return ""
    some = "" if held["episodes"] == policy["success"]["episodes"] else f" of the {held['episodes']} that can lose it"
    return f"at the end of the episode {held['successes']} still do{some} ({100 * held['rate']:.0f} %)"


def _against(first: str, others: Sequence[str], comparisons: Sequence[Mapping[str, Any]], what: str = "seeds") -> str:
    """Which policies the first beats significantly, and which not."""
    p = {frozenset((c["a"], c["b"])): c["p_adjusted"] for c in comparisons}
    beaten = [n for n in others if p[frozenset((first, n))] < LEVEL]
    level = [n for n in others if n not in beaten]
    parts = []
    if beaten:
        worst = max(p[frozenset((first, n))] for n in beaten)
        bound = "< 0.001" if worst < 0.001 else f"≤ {worst:.3f}"
        parts.append(f"It beats {_join(beaten, 'and')} beyond chance (p {bound}).")
    if level:
        parts.append(f"These {what} cannot tell it from {_join(level, 'or')}.")
    return " ".join(parts)


def _join(names: Sequence[str], word: str) -> str:
    if len(names) > 4:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
