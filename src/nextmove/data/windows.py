"""Training windows: many frames' observations, instructions and action chunks gathered at once from columns in memory.

Shapes: B batch, T observation steps, H horizon, A action width, D feature width; images (height, width, channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import PLAN, TASK
from nextmove.data.cameras import Camera
from nextmove.data.dataset import Dataset, window
from nextmove.data.errors import DataError
from nextmove.data.frame_store import StoredCamera
from nextmove.data.order import warn_of_order
from nextmove.data.tables import Array

BLOCK = 1 << 16
"""Rows looked at at once."""


class Windows:
    """Every frame of the chosen episodes with the observations before and the actions around it.

    observations: feature names, all numeric `observation.*` if absent; "task" among them asks for the instructions,
    which are in every batch where all frames have one, and "plan" for the sub-tasks, strings of the frames themselves;
    obs_offsets, action_offsets: frames beside it; episodes: those to use, the data set's own selection if absent;
    frames: where cameras are read, the data set if absent. Edges repeat the episode's first or last frame. Rows of
    other episodes than the table says are warned of; `order.check_order` refuses them.
    """

    def __init__(
        self,
        dataset: Dataset,
        observations: Sequence[str] | None = None,
        obs_offsets: Sequence[int] = (-1, 0),
        action_offsets: Sequence[int] = tuple(range(-1, 15)),
        episodes: Sequence[int] | Array | None = None,
        *,
        action: str = "action",
        frames: Mapping[str, Camera] | None = None,
    ) -> None:
        self.dataset = dataset if episodes is None else dataset.select(episodes)
        features = dataset.layout.features
        if observations is None:
            observations = [n for n, f in features.items() if n.startswith("observation.") and f.is_number]
        self.observations, self.action = tuple(n for n in observations if n != TASK), action
        self.obs_offsets = _offsets("obs_offsets", obs_offsets)
        self.action_offsets = _offsets("action_offsets", action_offsets)
        self.cameras = tuple(n for n in self.observations if dataset.layout.feature(n).is_camera)
        texts = [n for n in self.observations if n == PLAN and dataset.layout.feature(n).dtype == "string"]
        self.observations = tuple(n for n in self.observations if n not in texts)
        self.texts = {name: dataset.column(name) for name in texts}
        """Columns (N,) of strings by name."""
        self.views = {name: (frames or {}).get(name) or dataset.video(name) for name in self.cameras}
        numbers = [n for n in (*self.observations, action) if n not in self.cameras]
        wrong = [n for n in numbers if not dataset.layout.feature(n).is_number]
        if wrong:
            raise DataError(f"{wrong[0]!r}: expected numbers, found {features[wrong[0]].dtype}")
        warn_of_order(dataset)
        self.columns = dataset.floats(numbers)
        """Number features (N, D) float32 of the whole set, the windows' only copy of them."""
        self._tasks = dataset.column("task_index")
        self.has_tasks = self._all_named(TASK in observations)
        """Whether batches hold `task`, the instruction of each row."""
        self.start, self.stop = (bound[self.dataset.episodes] for bound in (dataset.episode_from, dataset.episode_to))
        """(S,) first and exclusive last row of each episode used."""
        self._end = np.cumsum(self.stop - self.start)

    @property
    def decodes(self) -> bool:
        """Whether making a batch decodes images, which other processes can do meanwhile; gathering they only slow."""
        return any(not isinstance(view, StoredCamera) for view in self.views.values())

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    def task_numbers(self) -> list[int]:
        """The task_index of every instruction that the windows have."""
        return sorted({int(i) for rows in self.dataset.spans(BLOCK) for i in np.unique(self._tasks[rows])})

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """The windows of these positions in [0, len).

        They hold observations float32 (B, T, D), cameras uint8 (B, T, H, W, C), action float32 (B, H, A), action_is_pad
        bool (B, H) true where the chunk left the episode, int64 (B,) `index` (row in the whole set), `episode_index`
        and `task_index`, and `task`, a list of B instructions (`has_tasks`).
        """
        chosen = np.asarray(indices, np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise DataError(f"window {chosen.max() if chosen.min() >= 0 else chosen.min()}: there are {len(self)}")
        place = np.searchsorted(self._end, chosen, side="right")
        start, stop = self.start[place], self.stop[place]
        rows = stop - (self._end[place] - chosen)
        seen, _ = window(rows, self.obs_offsets, start, stop)
        done, pad = window(rows, self.action_offsets, start, stop)
        out = {n: torch.from_numpy(self.columns[n][seen]) for n in self.observations if n not in self.cameras}
        out |= self._images(seen)
        out[self.action] = torch.from_numpy(self.columns[self.action][done])
        out[f"{self.action}_is_pad"] = torch.from_numpy(pad)
        whole = {"index": rows, "episode_index": self.dataset.episodes[place], "task_index": self._tasks[rows]}
        words = {TASK: [self.dataset.tasks[i] for i in whole["task_index"].tolist()]} if self.has_tasks else {}
        words |= {name: list(column[rows]) for name, column in self.texts.items()}
        return {**out, **{name: torch.from_numpy(values) for name, values in whole.items()}, **words}

    def _images(self, rows: Array) -> dict[str, Tensor]:
        def one(name: str) -> Tensor:
            frames = self.views[name].frames(rows.reshape(-1))
            return torch.from_numpy(frames.reshape(*rows.shape, *frames.shape[1:]))

        if len(self.cameras) < 2:
            return {name: one(name) for name in self.cameras}
        # Decoding leaves Python's lock, so cameras of one batch are decoded side by side.
        with ThreadPoolExecutor(len(self.cameras)) as pool:
            return dict(zip(self.cameras, pool.map(one, self.cameras), strict=True))

    def _all_named(self, needed: bool) -> bool:
        """Whether every frame used has an instruction, one of which says something; raises `DataError` if `needed`."""
        tasks = self.dataset.tasks
        for rows in self.dataset.spans(BLOCK):
            without = np.flatnonzero(~np.isin(self._tasks[rows], [*tasks]))
            if len(without):
                if needed:
                    row = rows.start + int(without[0])
                    self.dataset.task(int(self._tasks[row]), f"row {row}: ")
                return False
        if any(tasks.values()):
            return True
        if needed:
            found = "only empty ones" if tasks else "none"
            raise DataError(f"{self.dataset.root}: {TASK}: expected instructions, found {found}")
        return False


def _offsets(name: str, offsets: Sequence[int]) -> Array:
    values = np.asarray(offsets)
    if values.ndim != 1 or not len(values) or values.dtype.kind != "i":
        raise DataError(f"{name}: expected at least one whole number of frames, found {offsets!r}")
    return values.astype(np.int64)
