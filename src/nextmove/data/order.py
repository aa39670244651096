"""Checks that the rows of the data files agree with the table of episodes.

Rows are found by counting: data files in another order, or lengths exchanged in the table, give every number that adds
up and windows that go from one episode into another. What the rows say of themselves tells.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.layout import DEFAULTS, Feature
from nextmove.data.tables import Array, open_parquet, read_parts, to_numpy

TIMESTAMP = Feature("timestamp", DEFAULTS["timestamp"], (1,))
RATE = 0.05
"""Share by which the rate of rows may differ from that of info.json."""


def check_order(dataset: Dataset) -> None:
    """Raises `DataError` naming file, episode, expected and found for the first row that belongs elsewhere.

    Reads two columns of counters, once for a data set and its selections; warns where a set has neither.
    """
    if "order" not in dataset.checked:
        if not _named(dataset):
            warnings.warn(
                f"{dataset.root}: the data files have no episode_index, frame_index or timestamp: whether their rows "
                "are those of the episodes that the table says cannot be checked",
                stacklevel=2,
            )
        dataset.checked["order"] = _problem(dataset)
    if dataset.checked["order"]:
        raise DataError(dataset.checked["order"])


def warn_of_order(dataset: Dataset) -> None:
    """The same as a warning, for who looks at a set that is known to be wrong."""
    try:
        check_order(dataset)
    except DataError as problem:
        warnings.warn(str(problem), stacklevel=3)


def check_rate(dataset: Dataset) -> None:
    """Raises `DataError` where the rows' timestamps come at another rate than info.json says; reads some of them.

    Policies plan in seconds by that rate.
    """
    for path in dataset.table.data_files[:1]:
        with open_parquet(path) as file:
            if "timestamp" not in file.schema_arrow.names:
                return
        part = next(read_parts(path, ["timestamp"]), None)
        times = np.zeros(0) if part is None else to_numpy(part["timestamp"], TIMESTAMP, str(path)).astype(np.float64)
        steps = np.diff(times)
        steps = steps[steps > 0]  # others begin an episode
        if len(steps) and abs(float(np.median(steps)) * dataset.fps - 1) > RATE:
            raise DataError(
                f"{path}: timestamps come at {1 / float(np.median(steps)):.4g} Hz, {dataset.root}/meta/info.json says "
                f"fps {dataset.fps:g}; a policy would plan at the wrong speed, so one of the two is to be corrected"
            )


def _problem(dataset: Dataset) -> str:
    """What is wrong; empty if nothing is."""
    start, stop, table = dataset.episode_from, dataset.episode_to, _table(dataset)
    early = np.flatnonzero(start[1:] < stop[:-1])
    if len(early):
        e = int(early[0]) + 1
        return f"{table}: episode {e}: expected to begin at row {stop[e - 1]} or later, found {start[e]}"
    counters = _named(dataset)
    clock, before = counters[-1] if counters else "", (-1, -np.inf)
    for path, first, row, episode, frame in _counters(dataset, counters):
        rows = np.arange(row, row + len(episode))
        owner = np.minimum(dataset.table.of_rows(rows), max(0, dataset.num_episodes - 1))
        # Rows between two episodes belong to none.
        used = (rows < dataset.num_frames) & (rows >= start[owner])
        other = np.flatnonzero(
            (episode >= 0) & (used | (episode < dataset.num_episodes)) & ~(used & (episode == owner))
        )
        if len(other):
            i = int(other[0])
            e = int(owner[i])
            where = f"belongs to episode {e}, frame {rows[i] - start[e]}" if used[i] else "belongs to no episode"
            return (
                f"{path}: row {first + i} of the file {where}, as {table} counts: expected "
                f"{f'episode_index {e}' if used[i] else 'an episode_index beyond its last'}, found {episode[i]}. The "
                f"data files are in another order, or lengths in that table are those of other episodes; `nextmove "
                f"inspect {dataset.root}` looks at all"
            )
        last = np.concatenate([[before[1]], frame[:-1]])
        same = np.concatenate([[before[0]], owner[:-1]]) == owner
        back = np.flatnonzero(used & same & (frame <= last))
        if len(back):
            i = int(back[0])
            return (
                f"{path}: row {first + i} of the file, episode {owner[i]}: expected a {clock} above {last[i]:.12g}, "
                f"that of the row before, found {frame[i]:.12g}; the rows of the episode are out of order, or some of "
                f"them are another's than {table} says"
            )
        before = (int(owner[-1]), frame[-1]) if len(owner) else before
    return ""


def _named(dataset: Dataset) -> list[str]:
    """The counters that the data files have, declared or not; the timestamp stands for an absent frame_index."""
    declared, files = dataset.layout.features, dataset.table.data_files
    there = set(declared)
    if files:
        with open_parquet(files[0]) as file:
            there |= set(file.schema_arrow.names)
    clock = next((name for name in ("frame_index", "timestamp") if name in there), None)
    return [name for name in ("episode_index", clock) if name in there and name]


def _counters(dataset: Dataset, names: list[str]) -> Iterator[tuple[Path, int, int, Array, Array]]:
    """File, first row in the file, first row in the set, and the counters of one piece after the other.

    Without a number of the episode it is -1, without a clock the row's own number.
    """
    features, row = {n: Feature(n, DEFAULTS[n], (1,)) for n in names}, 0
    for path in dataset.table.data_files if names else ():
        first = row
        for part in read_parts(path, names):
            found = {n: to_numpy(part[n], f, str(path), row - first) for n, f in features.items()}
            size = len(found[names[0]])
            rows = np.arange(row, row + size)
            episode = found.pop("episode_index", np.full(size, -1))
            yield path, row - first, row, episode, next(iter(found.values()), rows)
            row += size


def _table(dataset: Dataset) -> str:
    return "meta/episodes.jsonl" if dataset.layout.is_v2 else "meta/episodes"
