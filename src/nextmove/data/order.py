"""Whether the rows of the data files are those that the table of episodes says.

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
from nextmove.data.tables import Array, read_parts, to_numpy

NAMES = ("episode_index", "frame_index")


def check_order(dataset: Dataset) -> None:
    """Raises `DataError` naming file, episode, expected and found for the first row that belongs elsewhere.

    Reads two columns of counters, once for a data set and its selections. A set that does not have them passes.
    """
    if "order" not in dataset.checked:
        dataset.checked["order"] = _problem(dataset)
    if dataset.checked["order"]:
        raise DataError(dataset.checked["order"])


def warn_of_order(dataset: Dataset) -> None:
    """The same as a warning, for who looks at a set that is known to be wrong."""
    try:
        check_order(dataset)
    except DataError as problem:
        warnings.warn(str(problem), stacklevel=3)


def _problem(dataset: Dataset) -> str:
    """What is wrong; empty if nothing is."""
    start, stop, table = dataset.episode_from, dataset.episode_to, _table(dataset)
    early = np.flatnonzero(start[1:] < stop[:-1])
    if len(early):
        e = int(early[0]) + 1
        return f"{table}: episode {e}: expected to begin at row {stop[e - 1]} or later, found {start[e]}"
    before = (-1, -1)
    for path, first, row, episode, frame in _counters(dataset):
        rows = np.arange(row, row + len(episode))
        owner = np.minimum(dataset.table.of_rows(rows), max(0, dataset.num_episodes - 1))
        # Rows between two episodes belong to none.
        used = (rows < dataset.num_frames) & (rows >= start[owner])
        other = np.flatnonzero(used & (episode != owner))
        if len(other):
            i = int(other[0])
            e = int(owner[i])
            return (
                f"{path}: row {first + i} of the file belongs to episode {e}, frame {rows[i] - start[e]}, as {table} "
                f"counts: expected episode_index {e}, found {episode[i]}. The data files are in another order, or "
                f"lengths in that table are those of other episodes; `nextmove inspect {dataset.root}` looks at all"
            )
        last = np.concatenate([[before[1]], frame[:-1]])
        same = np.concatenate([[before[0]], owner[:-1]]) == owner
        back = np.flatnonzero(used & same & (frame <= last))
        if len(back):
            i = int(back[0])
            return (
                f"{path}: row {first + i} of the file, episode {owner[i]}: expected a frame_index above {last[i]}, "
                f"that of the row before, found {frame[i]}; the rows of the episode are out of order"
            )
        before = (int(owner[-1]), int(frame[-1])) if len(owner) else before
    return ""


def _counters(dataset: Dataset) -> Iterator[tuple[Path, int, int, Array, Array]]:
    """File, first row in the file, first row in the set, and the counters of one piece after the other."""
    if not dataset.layout.features.keys() >= set(NAMES):
        return
    features, row = [Feature(n, DEFAULTS[n], (1,)) for n in NAMES], 0
    for path in dataset.table.data_files:
        first = row
        for part in read_parts(path, NAMES):
            episode, frame = (to_numpy(part[f.name], f, str(path), row - first) for f in features)
            yield path, row - first, row, episode, frame
            row += len(episode)


def _table(dataset: Dataset) -> str:
    return "meta/episodes.jsonl" if dataset.layout.is_v2 else "meta/episodes"
