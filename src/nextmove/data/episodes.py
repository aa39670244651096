"""The table of episodes: their rows, tasks and parts of videos; read from v3 parquet or v2 JSON Lines.

Shapes: E episodes, N frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.errors import DataError
from nextmove.data.layout import (
    V2_DATA_PATH,
    V2_VIDEO_PATH,
    VIDEO_PATH,
    Feature,
    Info,
    read_json_lines,
)
from nextmove.data.tables import Array, files_in, open_parquet, read_columns, to_numpy


@dataclass(frozen=True)
class Clips:
    """Where the episodes of one camera lie: `files`, the file of each episode (E,), its start there in seconds (E,)."""

    files: tuple[Path, ...]
    file_of: Array
    offset: Array


@dataclass(frozen=True)
class Episodes:
    """Row bounds of the episodes, `start` and exclusive `stop` (E,) int64, their tasks, files and video clips."""

    start: Array
    stop: Array
    tasks: tuple[tuple[str, ...], ...]
    data_files: tuple[Path, ...]
    clips: Mapping[str, Clips]

    @property
    def frames(self) -> int:
        """Number of rows of all episodes."""
        return int(self.stop[-1]) if len(self.stop) else 0

    def of_rows(self, rows: Array) -> Array:
        """The episode of each row number."""
        return np.searchsorted(self.stop, rows, side="right")

    def damaged(self, row: int, what: str, why: str = "") -> DataError:
        """The error of a row that cannot be read: what, then its episode and frame, then why."""
        episode = int(self.of_rows(np.array([row]))[0])
        problem = DataError(f"{what}, episode {episode}, frame {row - int(self.start[episode])}{why}")
        problem.episode = episode
        return problem


def read_episodes(info: Info) -> Episodes:
    """The table of episodes of a data set; raises `DataError` naming the file where something is missing."""
    return _read_v2(info) if info.is_v2 else _read_v3(info)


def read_tasks(info: Info) -> dict[int, str]:
    """The instructions by task_index, ascending; numbers may be missing, as where a task was filtered out.

    Raises `DataError` naming the file where a number stands for two instructions.
    """
    if info.is_v2:
        path = info.root / "meta" / "tasks.jsonl"
        records = read_json_lines(path, {"task_index": int, "task": str})
        pairs = [(r["task_index"], r["task"]) for r in records]
    else:
        path = info.root / "meta" / "tasks.parquet"
        if not path.exists() and not info.raw.get("total_tasks"):
            return {}
        pairs = _read_v3_tasks(path)
    found: dict[int, str] = {}
    for number, task in sorted(pairs):
        if found.setdefault(number, task) != task:
            raise DataError(f"{path}: task_index {number}: expected one task, found {found[number]!r} and {task!r}")
    return found


def _read_v3_tasks(path: Path) -> list[tuple[int, str]]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
    text = next((n for n in ("task", "__index_level_0__", *names) if n in names and n != "task_index"), "task")
    columns = read_columns(path, ["task_index", text])
    number = to_numpy(columns["task_index"], Feature("task_index", "int64", (1,)), str(path))
    tasks = columns[text].to_pylist()
    if None in tasks:
        raise DataError(f"{path}: feature {text!r} has no value in row {tasks.index(None)} of the file")
    return [(n, str(task)) for n, task in zip(number.tolist(), tasks, strict=True)]


def _read_v2(info: Info) -> Episodes:
    records = read_json_lines(info.root / "meta" / "episodes.jsonl", {"episode_index": int, "length": int})
    records.sort(key=lambda r: int(r["episode_index"]))
    number = [r["episode_index"] for r in records]
    if number != list(range(len(number))):
        raise DataError(f"{info.root}/meta/episodes.jsonl: expected episodes 0 to {len(number) - 1}, found {number}")
    for record in records:
        if record["length"] < 0:
            where = f"{info.root}/meta/episodes.jsonl: episode {record['episode_index']}"
            raise DataError(f"{where}: length: expected at least 0, found {record['length']}")
    stop = np.cumsum([r["length"] for r in records], dtype=np.int64)
    start = np.concatenate([np.zeros(1, np.int64), stop[:-1]])[: len(stop)]

    def place(key: str, default: str, **more: str) -> tuple[Path, ...]:
        return tuple(
            info.path(key, default, episode_chunk=e // info.chunks_size, episode_index=e, **more) for e in number
        )

    order, zeros = np.arange(len(number)), np.zeros(len(number))
    cameras = [name for name, feature in info.features.items() if feature.is_video]
    clips = {c: Clips(place("video_path", V2_VIDEO_PATH, video_key=c), order, zeros) for c in cameras}
    path = info.root / "meta" / "episodes.jsonl"
    tasks = tuple(_tasks(r.get("tasks"), r["episode_index"], path) for r in records)
    return Episodes(start, stop, tasks, place("data_path", V2_DATA_PATH), clips)


def _read_v3(info: Info) -> Episodes:
    folder = info.root / "meta" / "episodes"
    files = files_in(folder)
    if not files and info.raw.get("total_episodes"):
        raise DataError(f"{folder}: no parquet file found, expected {info.raw['total_episodes']} episodes")
    cameras = [name for name, feature in info.features.items() if feature.is_video]
    whole = ["episode_index", "dataset_from_index", "dataset_to_index"]
    placed = [f"videos/{c}/{key}" for c in cameras for key in ("chunk_index", "file_index", "from_timestamp")]
    parts = [read_columns(path, [*whole, "tasks", *placed]) for path in files]

    def column(name: str, dtype: str) -> Array:
        feature = Feature(name, dtype, (1,))
        values = [to_numpy(part[name], feature, str(path)) for part, path in zip(parts, files, strict=True)]
        return np.concatenate(values)[order] if values else np.zeros(0, dtype)

    order = np.arange(sum(len(part["tasks"]) for part in parts))
    order = np.argsort(column("episode_index", "int64"), kind="stable")
    number = column("episode_index", "int64")
    if not np.array_equal(number, np.arange(len(number))):
        raise DataError(f"{folder}: episode_index: expected 0 to {len(number) - 1}, found {number.tolist()}")
    rows = [(row, path) for part, path in zip(parts, files, strict=True) for row in part["tasks"].to_pylist()]
    tasks = [_tasks(rows[i][0], e, rows[i][1]) for e, i in enumerate(order.tolist())]
    clips = {c: _clips(info, c, column) for c in cameras}
    start, stop = column("dataset_from_index", "int64"), column("dataset_to_index", "int64")
    wrong = np.flatnonzero((start < 0) | (stop < start))
    if len(wrong):
        found = f"rows {start[wrong[0]]} to {stop[wrong[0]]}"
        raise DataError(f"{folder}: episode {wrong[0]}: expected a first and a later last row, found {found}")
    return Episodes(start, stop, tuple(tasks), tuple(files_in(info.root / "data")), clips)


def _tasks(row: Any, episode: int, path: Path) -> tuple[str, ...]:
    if row is not None and not isinstance(row, list):
        raise DataError(f"{path}: episode {episode}: tasks: expected a list of instructions, found {row!r:.60}")
    return tuple(map(str, row or ()))


def _clips(info: Info, camera: str, column: Any) -> Clips:
    chunk, file = (column(f"videos/{camera}/{key}", "int64") for key in ("chunk_index", "file_index"))
    pairs, file_of = np.unique(np.stack([chunk, file], 1), axis=0, return_inverse=True)
    paths = tuple(
        info.path("video_path", VIDEO_PATH, video_key=camera, chunk_index=int(c), file_index=int(f)) for c, f in pairs
    )
    return Clips(paths, file_of.reshape(-1), column(f"videos/{camera}/from_timestamp", "float64"))
