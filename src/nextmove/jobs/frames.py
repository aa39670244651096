"""The cameras that a policy is trained on: read from stores of decoded frames, broken episodes named or left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nextmove import data
from nextmove.data.frames import GB, Frames, stored_frames
from nextmove.data.watched import unreadable
from nextmove.evaluation.progress import progress_bar
from nextmove.models.policy import Policy

NAMED = 8
"""Broken episodes whose reasons are shown."""


def filmed(
    dataset: data.Dataset,
    policy: Policy,
    count: int,
    leave_out: Sequence[int],
    leave_out_broken: bool,
    frame_store_gb: float,
) -> tuple[Frames, tuple[int, ...]]:
    """Where the policy's cameras are read for training on the first `count` episodes not left out (0: all).

    And the numbers of all episodes that are left out, with `leave_out_broken` those whose images are missing or damaged
    too; without it they are an error. Raises DataError naming every such episode.
    """
    cameras = [name for name, feature in policy.inputs.items() if feature.type == "image"]
    cameras = [name for name in cameras if name in dataset.layout.features]
    left = tuple(leave_out)
    while cameras:
        rest = np.setdiff1d(np.arange(dataset.num_episodes), np.array(left, np.int64))
        episodes = rest[: count or len(rest)]
        broken = unreadable(dataset, cameras, episodes, opened=False)
        found = None if broken else _stored(dataset, cameras, episodes, frame_store_gb)
        if found is not None:
            broken = {number: why for number, why in found.broken.items() if number in set(episodes.tolist())}
        elif not broken:
            broken = unreadable(dataset, cameras, episodes, opened=True)
        if not broken:
            return found or Frames({}), left
        report = _report(dataset, broken)
        numbers = tuple(sorted(broken))
        if not leave_out_broken:
            each = " ".join(map(str, numbers))
            raise data.DataError(
                f"{report}; mend them, or train without them: --leave-out-broken, or --leave-out {each}"
            )
        print(f"left out: {report}")
        left += numbers
    return Frames({}), left


def _stored(dataset: data.Dataset, cameras: Sequence[str], episodes: np.ndarray, limit: float) -> Frames | None:
    colour = [name for name in cameras if not dataset.layout.feature(name).is_depth]
    shapes = {name: dataset.layout.feature(name).shape for name in colour}
    sizes = {name: (shape[0], shape[1]) for name, shape in shapes.items()}
    return stored_frames(dataset, sizes, episodes, limit=limit * GB, bar=_bar)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar(bool(total), "frames decoded", total) as move:
        yield lambda count: move(count, "frames decoded")


def _report(dataset: data.Dataset, broken: dict[int, str]) -> str:
    """Every broken episode, the reasons of the first ones."""
    numbers = sorted(broken)
    some = "; ".join(f"episode {number}: {broken[number]}" for number in numbers[:NAMED])
    more = f"; and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    which = ", ".join(map(str, numbers))
    return f"{dataset.root}: no images of {len(numbers)} of {dataset.num_episodes} episodes ({which}): {some}{more}"
