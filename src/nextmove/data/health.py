"""The doctor: what is wrong with a data set, or likely to spoil a training run, with file, feature, episode and frame.

Shapes: N frames, D numbers of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data import suspects
from nextmove.data.cameras import VideoCamera
from nextmove.data.dataset import Dataset, open_dataset
from nextmove.data.digits import Rounding, rounding
from nextmove.data.errors import DataError
from nextmove.data.stats import describe
from nextmove.data.suspects import Finding, at
from nextmove.data.tables import Array, open_parquet, read_columns, to_numpy
from nextmove.data.watched import faults, shared

STUCK = 5
"""Equal frames in a row that count as a sensor that stood still."""


def doctor(target: str | Path | Dataset) -> list[Finding]:
    """Everything noticed about a data set, files first; a set that cannot even be opened gives one error.

    Reads all columns and the index of every video, but decodes no frame.
    """
    try:
        dataset = target if isinstance(target, Dataset) else open_dataset(target)
    except DataError as problem:
        return [Finding("error", "open", str(problem))]
    findings = [*_totals(dataset), *_tables(dataset)]
    if any(f.check in ("episodes", "table", "length") for f in findings):
        return [*findings, *_videos(dataset, timed=False)]
    findings += _videos(dataset, timed=True)
    checks: list[Callable[[Dataset], Iterator[Finding]]] = [
        _counters,
        _numbers,
        _meanings,
        _repeats,
        _statistics,
    ]
    for check in checks:
        findings += check(dataset)
    return findings


def _totals(dataset: Dataset) -> Iterator[Finding]:
    found = {
        "total_episodes": dataset.num_episodes,
        "total_frames": dataset.num_frames,
        "total_tasks": len(dataset.tasks),
    }
    for key, number in found.items():
        if dataset.info.get(key, number) != number:
            yield Finding("error", "totals", f"info.json says {key} {dataset.info[key]}, the tables hold {number}")
    start, stop = dataset.episode_from, dataset.episode_to
    gaps = np.flatnonzero(start != np.concatenate([[0], stop[:-1]])[: len(start)])
    for episode in gaps[:1].tolist():
        yield Finding(
            "error", "episodes", f"begins at row {start[episode]}, not where the last one ended", None, episode
        )
    for episode in np.flatnonzero(stop <= start).tolist():
        yield Finding("error", "episodes", "has no frame", None, episode)


def _tables(dataset: Dataset) -> Iterator[Finding]:
    """Missing, truncated and misshapen data files, and their numbers of rows."""
    rows = 0
    stored = [f for f in dataset.layout.features.values() if not f.is_video]
    for number, path in enumerate(dataset.table.data_files):
        try:
            with open_parquet(path) as file:
                held = file.metadata.num_rows
            columns = read_columns(path, [f.name for f in stored])
            for feature in stored:
                if not feature.is_camera:
                    to_numpy(columns[feature.name], feature, str(path))
        except DataError as problem:
            yield Finding("error", "table", str(problem), file=path)
            return
        rows += held
        length = int(dataset.episode_to[number] - dataset.episode_from[number]) if dataset.layout.is_v2 else held
        if held != length:
            yield Finding("error", "length", f"holds {held} rows, its episode {length}", None, number, file=path)
    if rows != dataset.num_frames:
        yield Finding("error", "length", f"the data files hold {rows} rows, the episodes {dataset.num_frames}")


def _videos(dataset: Dataset, timed: bool) -> Iterator[Finding]:
    """Cameras described wrongly, missing and truncated videos, frames that have no image at their time."""
    for name, feature in dataset.layout.features.items():
        if feature.remark:
            yield Finding("warning", "layout", feature.remark, name)
        if not feature.is_video:
            continue
        camera = dataset.video(name)
        assert isinstance(camera, VideoCamera)
        for number, path in enumerate(camera.clips.files):
            for level, episode, why in faults(dataset, camera, number, timed):
                yield Finding(level, "video", why, name, episode, file=path)
        for level, episode, why in shared(dataset, camera) if timed else ():
            yield Finding(level, "video", why, name, episode)


def _counters(dataset: Dataset) -> Iterator[Finding]:
    """The features that every set has must count as they should."""
    rows = np.arange(dataset.num_frames)
    episode = dataset.table.of_rows(rows)
    frame = rows - dataset.episode_from[episode]
    columns = dataset.columns(["index", "episode_index", "frame_index", "timestamp", "task_index"])
    expected = {"index": rows, "episode_index": episode, "frame_index": frame}
    for name, values in expected.items():
        for row in np.flatnonzero(columns[name] != values)[:1].tolist():
            text = f"expected {values[row]}, found {columns[name][row]}"
            yield at(dataset, row, "error", "counter", text, name)
    off = np.abs(columns["timestamp"] - frame / dataset.fps)
    with np.errstate(invalid="ignore"):
        late = ~(off <= dataset.tolerance + np.spacing(columns["timestamp"]))  # NaN is no time either
    for row in np.flatnonzero(late)[:1].tolist():
        text = f"{late.sum()} frames beside frame / fps: expected {frame[row] / dataset.fps:.6f} s, "
        text += f"found {columns['timestamp'][row]:.6f} s"
        yield at(dataset, row, "error", "timestamp", text, "timestamp")
    tasks = columns["task_index"]
    for row in np.flatnonzero(~np.isin(tasks, list(dataset.tasks)))[:1].tolist():
        text = f"task {tasks[row]} does not exist, there are {len(dataset.tasks)}"
        yield at(dataset, row, "error", "counter", text, "task_index")


def _features(dataset: Dataset) -> Iterator[tuple[str, Array]]:
    """The numeric features that a robot made, as (N, D)."""
    made = ("timestamp", "frame_index", "episode_index", "index", "task_index")
    for name, feature in dataset.layout.features.items():
        if feature.is_number and name not in made:
            yield name, dataset.column(name).reshape(dataset.num_frames, -1)


def _numbers(dataset: Dataset) -> Iterator[Finding]:
    """Numbers that are not finite."""
    for name, values in _features(dataset):
        finite = np.isfinite(values)
        bad = np.flatnonzero(~finite.all(1))
        for episode in np.unique(dataset.table.of_rows(bad)).tolist():
            row = int(bad[np.searchsorted(bad, dataset.episode_from[episode])])
            count = int(((bad >= dataset.episode_from[episode]) & (bad < dataset.episode_to[episode])).sum())
            text = f"{count} frames with NaN or infinity, the first in dimension {int(np.argmin(finite[row]))}"
            yield at(dataset, row, "error", "finite", text, name)


def _meanings(dataset: Dataset) -> Iterator[Finding]:
    """What a model would make of the numbers."""
    for name, values in _features(dataset):
        lost = rounding(values) if values.dtype.itemsize > 2 else Rounding()
        yield from suspects.feature(dataset, name, values, lost)


def _repeats(dataset: Dataset) -> Iterator[Finding]:
    """Frames equal to the one before for a while, and whole episodes that came twice."""
    parts = [v for name, v in _features(dataset) if name.startswith(("observation.", "action"))]
    if not parts or dataset.num_frames < 2:
        return
    same = np.all([(v[1:] == v[:-1]).all(1) for v in parts], axis=0)
    seen: dict[Any, int] = {}
    for episode, (start, stop) in enumerate(zip(dataset.episode_from, dataset.episode_to, strict=True)):
        length, first = _longest(same[start : stop - 1])
        if length + 1 >= STUCK:
            text = f"{length + 1} frames in a row are equal in all observations and actions"
            yield Finding("warning", "repeat", text, None, episode, first)
        key = tuple(v[start:stop].tobytes() for v in parts)
        if key in seen:
            yield Finding("warning", "repeat", f"is the same as episode {seen[key]}", None, episode)
        seen.setdefault(key, episode)


def _longest(flags: Array) -> tuple[int, int]:
    """Length and start of the longest run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    return (int(lengths.max()), int(starts[lengths.argmax()])) if len(lengths) else (0, 0)


def _statistics(dataset: Dataset) -> Iterator[Finding]:
    """Stored statistics that the frames do not have."""
    try:
        stored = dataset.stats
    except DataError as problem:
        there = any((dataset.root / "meta" / name).exists() for name in ("stats.json", "episodes_stats.jsonl"))
        yield Finding("error" if there else "warning", "stats", str(problem))
        return
    for name, values in _features(dataset):
        shape = dataset.layout.features[name].shape
        values = values.reshape(len(values), *shape)
        whole = values[np.isfinite(values.reshape(len(values), -1)).all(1)]
        if name not in stored or not len(whole):
            yield Finding("warning", "stats", "has no statistics", name)
            continue
        if unusable := _unusable(stored[name], dataset.layout.features[name].shape):
            yield Finding("warning", "stats", unusable, name)
            continue
        exact = describe(whole, name)
        scale = np.maximum(exact["std"], 1e-4 * np.abs(exact["mean"])).clip(np.finfo(np.float64).tiny)
        wrong = [
            f"{key} by {np.max(np.abs(stored[name][key] - exact[key]) / scale):.2g}"
            for key in exact
            if key != "count" and key in stored[name] and stored[name][key].shape == exact[key].shape
            if np.any(np.abs(stored[name][key] - exact[key]) > 0.05 * scale)
        ]
        if wrong:
            yield Finding("warning", "stats", f"stored ones are off, in standard deviations: {', '.join(wrong)}", name)


def _unusable(stored: Mapping[str, Array], shape: tuple[int, ...]) -> str:
    """What makes stored statistics of a feature of this shape no statistics; nothing where they are some."""
    for key in ("min", "max", "mean", "std"):
        if key not in stored:
            return f"stored ones lack {key}, found {', '.join(stored) or 'none'}"
        found = stored[key]
        if found.shape not in (shape, shape[-1:]):
            return f"stored {key}: expected {shape[-1]} numbers, found {found.size} in shape {list(found.shape)}"
        if not np.isfinite(found).all():
            return f"stored {key}: expected numbers, found {found[~np.isfinite(found)][0]}"
    return ""
