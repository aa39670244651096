"""Staged episodes numbered within a data set: their rows and statistics depend on the episodes before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nextmove.data.draft import DraftedEpisode
from nextmove.data.stats import Stats, describe
from nextmove.data.tables import Array, read_columns, read_table


@dataclass(frozen=True)
class Base:
    """What the data set holds already: counts, instructions, statistics; all empty for a new one."""

    episodes: int = 0
    frames: int = 0
    tasks: Mapping[int, str] = field(default_factory=dict)
    stats: Mapping[str, Mapping[str, Array]] | None = None

    def numbered(self, tasks: Iterable[str]) -> dict[str, int]:
        """The task_index of every instruction: those known keep theirs, new ones of `tasks` are counted on."""
        known = {task: number for number, task in reversed([*self.tasks.items()])}
        following = max(self.tasks, default=-1) + 1
        for task in tasks:
            if task not in known:
                known[task], following = following, following + 1
        return known


@dataclass(frozen=True)
class Numbered:
    """A staged episode, its number in the data set, its first row and the task_index of instructions."""

    episode: DraftedEpisode
    number: int
    start: int
    task_index: Mapping[str, int]

    @property
    def stop(self) -> int:
        """The row behind its last one."""
        return self.start + self.episode.length

    def counters(self) -> dict[str, Array]:
        """The columns that depend on other episodes, (T,) each."""
        path = self.episode.data
        local = read_columns(path, ["task_index"])["task_index"].to_numpy()
        return {
            "episode_index": np.full(self.episode.length, self.number),
            "index": np.arange(self.start, self.stop),
            "task_index": np.array([self.task_index[task] for task in self.episode.tasks])[local],
        }

    def table(self) -> Any:
        """Its rows as the data set stores them."""
        import pyarrow as pa

        table = read_table(self.episode.data)
        for name, values in self.counters().items():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(place), pa.array(values))
        return table

    def stats(self) -> Stats:
        """Its statistics as the data set stores them."""
        return {**self.episode.stats, **{name: describe(values, name) for name, values in self.counters().items()}}


def numbered(base: Base, episodes: Sequence[DraftedEpisode]) -> list[Numbered]:
    """These episodes behind `base`, in this order."""
    task_index = base.numbered(task for episode in episodes for task in episode.tasks)
    out, start = list[Numbered](), base.frames
    for number, episode in enumerate(episodes, base.episodes):
        out.append(Numbered(episode, number, start, task_index))
        start = out[-1].stop
    return out
