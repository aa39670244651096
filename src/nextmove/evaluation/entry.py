"""One policy of a report, and its file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.evaluation.beside import Beside, Errors
from nextmove.evaluation.episode import EpisodeResult, episode_json, plain, read_episode
from nextmove.evaluation.film import Film
from nextmove.evaluation.latency import Latency
from nextmove.evaluation.offline import Offline
from nextmove.evaluation.trajectory import Trajectory
from nextmove.host.files import read_json


@dataclass(frozen=True)
class Entry:
    """What is known about one policy; what is absent is left out of the report."""

    name: str
    results: Sequence[EpisodeResult] = ()
    latency: Latency | None = None
    offline: Offline | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """About it and its training; `parameters` and `minutes` of training are shown in the first table."""
    curve: Mapping[str, Sequence[float]] | None = None
    """`step` and `loss` of its training, as `read_train_log` gives them."""
    command: str = ""
    """What trains it."""


def unfinished(facts: Mapping[str, Any]) -> str:
    """A sentence if the model's training was stopped before its budget; else nothing."""
    if "finished" not in facts or facts["finished"] is not None:
        return ""
    return f"its training was stopped at step {facts.get('steps')} of a budget of {facts.get('budget')}"


def read_train_log(path: str | Path, points: int = 200) -> dict[str, list[float]]:
    """`step` and `loss` of a train.jsonl's lines of `kind` step, at most `points` means over neighbouring lines."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # The last line of a run that was killed may be cut.
            continue
        if record.get("kind", "step") == "step" and record.get("loss") is not None:
            found.append((float(record["step"]), float(record["loss"])))
    if not found:
        return {"step": [], "loss": []}
    means = np.array([part.mean(0) for part in np.array_split(np.array(found), min(points, len(found)))])
    return {"step": means[:, 0].tolist(), "loss": means[:, 1].tolist()}


def entry_json(entry: Entry) -> dict[str, Any]:
    """The whole entry as plain JSON values, for `read_entry`."""
    record = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    record["results"] = [episode_json(result) for result in entry.results]
    record["latency"] = _fields(entry.latency)
    record["offline"] = offline_json(entry.offline)
    return dict(plain(record))


def offline_json(result: Offline | None) -> dict[str, Any] | None:
    """Held-out errors as plain JSON values."""
    if result is None:
        return None
    beside = _fields(result.beside)
    if result.beside is not None and beside is not None:
        beside["errors"] = {name: _fields(errors) for name, errors in result.beside.errors.items()}
    drawn = [trajectory.record() for trajectory in result.trajectories]
    seen = {"trajectories": drawn, "films": [film.record() for film in result.films]}
    own = _fields(replace(result, trajectories=(), films=())) or {}
    return {**own, "latency": _fields(result.latency), "beside": beside, **seen}


def _fields(value: Any) -> dict[str, Any] | None:
    """A dataclass's own fields, not copied deeply."""
    return None if value is None else dict(plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}))


def read_entry(path: str | Path, task: str = "") -> Entry:
    """The entry in a file of `entry_json`, whatever lies beside its keys; raises ValueError that names the file.

    task: of the episodes of older versions, which name none.
    """
    record = read_json(Path(path))
    try:
        names = {f.name for f in dataclasses.fields(Entry)}
        if not isinstance(record, dict) or not names <= set(record):
            raise ValueError(f"expected the keys {sorted(names)}, found {sorted(record)}")
        values = {name: record[name] for name in names}
        values["results"] = [read_episode(result, task) for result in record["results"]]
        values["latency"] = _latency(record["latency"])
        values["offline"] = _offline(record["offline"])
        return Entry(**values)
    except (ValueError, TypeError, KeyError) as problem:
        raise ValueError(f"{path}: not an entry of a report: {problem}") from problem


def _latency(record: Mapping[str, Any] | None) -> Latency | None:
    return None if record is None else Latency(**{**record, "ms": tuple(record["ms"])})


def _offline(record: Mapping[str, Any] | None) -> Offline | None:
    if record is None:
        return None
    values: dict[str, Any] = {k: float("nan") if v is None else v for k, v in record.items()}
    for name in ("mae_by_dim", "rmse_by_dim", "mae_by_step", "rmse_by_step", "spread_by_dim"):
        values[name] = np.array(record[name], np.float64)
    values["latency"], values["beside"] = _latency(record["latency"]), _beside(record.get("beside"))
    values["trajectories"] = tuple(Trajectory.read(found) for found in record.get("trajectories", ()))
    values["films"] = tuple(Film.read(found) for found in record.get("films", ()))
    return Offline(**values)


def _beside(record: Mapping[str, Any] | None) -> Beside | None:
    if record is None:
        return None
    errors = {
        name: Errors(**{key: np.array(value, np.float64) for key, value in found.items()})
        for name, found in record["errors"].items()
    }
    numbers = {name: np.array(record[name]) for name in ("spread", "episodes", "count")}
    return Beside(**numbers, errors=errors, names=tuple(record.get("names", ())))
