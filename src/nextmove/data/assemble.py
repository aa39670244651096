"""Writes staged episodes as files of a v3.0 data set, published by one list of moves that a crash cannot split.

All new files are first written under `.staging/commit`; then `.staging/commit.json` names them; from then on the moves
are made, now or by the next writer, and only after the last one the staging folder goes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.data.draft import DraftedEpisode, described
from nextmove.data.encode import join_videos
from nextmove.data.layout import DATA_PATH, EPISODES_PATH, STAGING, VIDEO_PATH, Feature, read_json
from nextmove.data.numbered import Base, Numbered, numbered
from nextmove.data.schema import episodes_table, tasks_table
from nextmove.data.stats import PixelCounts, Stats, describe, merge, to_json
from nextmove.data.tables import files_in, read_columns, to_numpy
from nextmove.host.files import sync, sync_tree, write_json

COMMIT = "commit.json"
MB = 2**20

Place = tuple[int, int]


def assemble(
    root: Path, info: dict[str, Any], features: Mapping[str, Feature], base: Base, episodes: Sequence[DraftedEpisode]
) -> None:
    """Write the files of staged `episodes` behind `base` and publish them with `info`, whose totals are set here."""
    out = root / STAGING / "commit"
    shutil.rmtree(out, ignore_errors=True)
    new = numbered(base, episodes)
    rows = _episode_rows(new)
    places = _place_data(root, out, info, new)
    _put(rows, "data", places)
    for row, one in zip(rows, new, strict=True):
        row |= {"dataset_from_index": one.start, "dataset_to_index": one.stop}
    for name, feature in features.items():
        if feature.is_video:
            _write_videos(root, out, info, name, episodes, rows)
    tasks = dict(base.tasks) | {n: t for t, n in new[0].task_index.items()}
    _write_episodes(root, out, info, rows, new)
    _save(out / "meta" / "tasks.parquet", tasks_table(tasks))
    write_json(out / "meta" / "stats.json", to_json(_stats(root, out, features, base, episodes)), indent=4)
    totals = {"episodes": base.episodes + len(new), "frames": new[-1].stop}
    info |= {f"total_{key}": value for key, value in {**totals, "tasks": len(tasks)}.items()}
    info["splits"] = {"train": f"0:{totals['episodes']}"}
    write_json(out / "meta" / "info.json", info, indent=4)
    sync_tree(out)
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    # Last, because a folder with info.json is a data set.
    names.sort(key=lambda name: name == "meta/info.json")
    write_json(root / STAGING / COMMIT, names)
    publish(root)


def publish(root: Path) -> None:
    """Make the moves of a finished `assemble`, those that a crash left as well; without one nothing happens."""
    staging = root / STAGING
    done = root / f"{STAGING}-done"
    shutil.rmtree(done, ignore_errors=True)
    if not (staging / COMMIT).exists():
        return
    for name in read_json(staging / COMMIT):
        source, target = staging / "commit" / name, root / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
            for folder in [p for p in target.parents if p == root or root in p.parents]:
                sync(folder)
    # One rename ends the commit: a folder half removed must not look like episodes still to be written.
    os.replace(staging, done)
    sync(root)
    shutil.rmtree(done)


def _next(place: Place | None, chunks_size: int) -> Place:
    if place is None:
        return 0, 0
    return (place[0] + 1, 0) if place[1] >= chunks_size - 1 else (place[0], place[1] + 1)


def _last(folder: Path) -> Place | None:
    """The largest chunk and file numbers below a folder; a writer never adds to a file that is there."""
    found = [re.fullmatch(r"chunk-(\d+)/file-(\d+)\.\w+", f"{p.parent.name}/{p.name}") for p in folder.glob("*/*")]
    return max(((int(m[1]), int(m[2])) for m in found if m), default=None)


def _groups(sizes: Sequence[int], limit: float, folder: Path, chunks_size: int) -> Iterator[tuple[Place, list[int]]]:
    """Numbers of consecutive parts that share a file: a part that would take it to the limit begins the next one."""
    place, group, total = _next(_last(folder), chunks_size), list[int](), 0
    for number, size in enumerate(sizes):
        if group and total + size >= limit:
            yield place, group
            place, group, total = _next(place, chunks_size), [], 0
        group.append(number)
        total += size
    if group:
        yield place, group


def _place_data(root: Path, out: Path, info: Mapping[str, Any], new: list[Numbered]) -> list[Place]:
    """Write the data files, one row group an episode; the place of every episode."""
    import pyarrow.parquet as pq

    sizes = [one.episode.data.stat().st_size for one in new]
    places: list[Place] = []
    for place, group in _groups(sizes, info["data_files_size_in_mb"] * MB, root / "data", info["chunks_size"]):
        path = out / DATA_PATH.format(chunk_index=place[0], file_index=place[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = new[group[0]].table().schema
        with pq.ParquetWriter(path, schema) as writer:
            for number in group:
                table = new[number].table().replace_schema_metadata(schema.metadata)
                writer.write_table(table, row_group_size=table.num_rows)
        places += [place] * len(group)
    return places


def _write_videos(
    root: Path, out: Path, info: Mapping[str, Any], name: str, new: Sequence[DraftedEpisode], rows: list[dict[str, Any]]
) -> None:
    sizes = [e.video(name).stat().st_size for e in new]
    limit, folder = info["video_files_size_in_mb"] * MB, root / "videos" / name
    places: list[Place] = []
    starts: list[int] = []
    for place, group in _groups(sizes, limit, folder, info["chunks_size"]):
        path = out / VIDEO_PATH.format(video_key=name, chunk_index=place[0], file_index=place[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        lengths = [new[i].length for i in group]
        join_videos([new[i].video(name) for i in group], lengths, info["fps"], path)
        places += [place] * len(group)
        starts += [0, *np.cumsum(lengths)[:-1].tolist()]
    _put(rows, f"videos/{name}", places)
    for row, first, episode in zip(rows, starts, new, strict=True):
        row[f"videos/{name}/from_timestamp"] = first / info["fps"]
        row[f"videos/{name}/to_timestamp"] = (first + episode.length) / info["fps"]


def _episode_rows(new: list[Numbered]) -> list[dict[str, Any]]:
    return [{"episode_index": o.number, "tasks": list(o.episode.tasks), "length": o.episode.length} for o in new]


def _put(rows: list[dict[str, Any]], prefix: str, places: list[Place]) -> None:
    for row, (chunk, file) in zip(rows, places, strict=True):
        row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"] = chunk, file


def _write_episodes(
    root: Path, out: Path, info: Mapping[str, Any], rows: list[dict[str, Any]], new: list[Numbered]
) -> None:
    size = episodes_table(rows[:1], [new[0].stats()], (0, 0)).nbytes
    limit, folder = info["data_files_size_in_mb"] * MB, root / "meta" / "episodes"
    for place, group in _groups([size] * len(rows), limit, folder, info["chunks_size"]):
        table = episodes_table([rows[i] for i in group], [new[i].stats() for i in group], place)
        _save(out / EPISODES_PATH.format(chunk_index=place[0], file_index=place[1]), table)


def _save(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _stats(root: Path, out: Path, features: Mapping[str, Feature], base: Base, new: Sequence[DraftedEpisode]) -> Stats:
    """Of numbers: exact, from all frames. Of cameras: exact for the new episodes, merged with those of the base."""
    files = [*(files_in(root / "data") if base.frames else ()), *files_in(out / "data")]
    numbers = [name for name, feature in features.items() if feature.is_number]
    columns = [read_columns(path, numbers) for path in files]
    stats: Stats = {}
    for name, feature in features.items():
        if feature.is_number:
            parts = zip(files, columns, strict=True)
            values = np.concatenate([to_numpy(part[name], feature, str(path)) for path, part in parts])
            # What another program wrote may hold NaN; it must not keep new episodes from being stored.
            whole = np.isfinite(values).reshape(len(values), -1).all(1)
            stats[name] = describe(values[whole], name)
        elif feature.is_camera:
            counted = described(sum((e.pixels[name] for e in new), PixelCounts()), feature)
            known = (base.stats or {}).get(name)
            stats[name] = merge([{name: dict(known)}, {name: counted}])[name] if known else counted
    return stats
