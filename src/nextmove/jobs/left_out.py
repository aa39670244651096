"""Episodes that are left out, and those that cannot be judged because their images are missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nextmove.data import DataError, Dataset
from nextmove.data.tables import Array
from nextmove.data.watched import listed, unreadable
from nextmove.models.policy import Policy

NAMED = 8
"""Episodes whose reason is told."""


def remaining(dataset: Dataset, leave_out: Sequence[int], use: str = "judging") -> Array:
    """Numbers of the data set's other episodes; raises ValueError for a number that it has not, and where none is left.

    use: what they are for, for the message. Raises DataError naming episodes among them that hold no frame.
    """
    for number in leave_out:
        if not 0 <= number < dataset.num_episodes:
            raise ValueError(f"leave_out: expected episodes 0 to {dataset.num_episodes - 1}, found {number}")
    rest = np.setdiff1d(np.arange(dataset.num_episodes), np.array(leave_out, np.int64))
    if not len(rest):
        raise ValueError(f"leave_out: expected to leave an episode for {use}, found all {dataset.num_episodes}")
    empty = rest[dataset.episode_to[rest] <= dataset.episode_from[rest]].tolist()
    if empty:
        which = f"episode{'s' * (len(empty) > 1)} {listed(empty)}"
        way = f"--leave-out {' '.join(map(str, sorted({*empty, *leave_out})))}"
        raise DataError(f"{dataset.root}: {which}: expected at least one frame, found none; go on without: {way}")
    return rest


@contextmanager
def told_the_way(leave_out: Sequence[int] = ()) -> Iterator[None]:
    """Inside, an error of one damaged episode says how to judge without it."""
    try:
        yield
    except DataError as problem:
        if problem.episode is None:
            raise
        without = " ".join(map(str, sorted({problem.episode, *leave_out})))
        raise DataError(f"{problem}; mend it, or judge without it: --leave-out {without}") from None


def check_watched(policy: Policy, dataset: Dataset, episodes: Array, leave_out: Sequence[int] = ()) -> None:
    """Raises DataError naming all episodes whose videos the policy would be shown and cannot be, and how to go on."""
    cameras = [name for name, feature in policy.inputs.items() if feature.type == "image"]
    broken = unreadable(dataset, cameras, episodes, opened=True)
    if not broken:
        return
    numbers = sorted(broken)
    some = "; ".join(f"episode {number}: {broken[number]}" for number in numbers[:NAMED])
    more = f"; and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    all_left = " ".join(map(str, sorted({*numbers, *leave_out})))
    way = f", or judge without them: --leave-out {all_left}" if len(numbers) < len(episodes) else ", for none is left"
    raise DataError(
        f"{dataset.root}: no images of {len(numbers)} of {len(episodes)} episodes ({listed(numbers)}): {some}{more}; "
        f"mend them{way}"
    )
