"""Compares a policy's plans with demonstrations: episodes, windows, and what the baselines are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nextmove import data as sets
from nextmove import evaluation
from nextmove.contracts import Batch
from nextmove.data.order import check_order
from nextmove.data.stats import check_finite
from nextmove.evaluation.progress import progress_bar
from nextmove.evaluation.trajectory import LONGEST, Trajectory, follow
from nextmove.jobs.films import filmed
from nextmove.jobs.held import held_state, spread
from nextmove.jobs.left_out import check_watched, remaining, told_the_way
from nextmove.jobs.provenance import Choice, choose
from nextmove.jobs.repeat import at_least
from nextmove.jobs.robot import fits_data, number_features, read_features
from nextmove.models.policy import Policy

PAST = 2
"""Actions before the plan that the baselines may know."""
BATCH = 256
DRAWN = 2
"""Episodes whose plans are drawn, each up to `trajectory.LONGEST` steps."""


def offline(
    policy: Policy,
    data: Path | str,
    *,
    windows: int = 2048,
    choice: Choice | None = None,
    leave_out: Sequence[int] = (),
) -> tuple[evaluation.Offline, str, Choice]:
    """Errors of a policy and of the baselines on a data set, a sentence on what was measured, and the episodes.

    windows: how many, evenly out of all frames of the episodes; 0 for all. choice: the episodes, if not those that the
    policy was not trained on; leave_out: numbers of episodes that are none of them. Raises DataError naming episodes
    whose images are missing.
    """
    at_least(0, windows=windows)
    dataset = sets.open_dataset(data)
    unnamed = fits_data(policy, dataset)
    if unnamed:
        print(unnamed)
    choice = choice or choose(policy, dataset.select(remaining(dataset, leave_out)))
    check_watched(policy, dataset, choice.episodes, leave_out)
    chosen = dataset.select(choice.episodes)
    check_order(chosen)
    check_finite(chosen, [*number_features(policy), "action"])
    state = held_state(chosen)
    judged = _windows(policy, chosen, state)
    picks = np.linspace(0, len(judged) - 1, min(len(judged), windows or len(judged))).astype(np.int64)
    with told_the_way(leave_out), progress_bar(True, "windows", len(picks)) as move:
        found = evaluation.offline(
            policy, _batches(judged, picks, move), now=max(PAST, policy.timing.first), latency_calls=100, state=state,
            spread=spread(judged.columns["action"][chosen.rows]), names=dataset.layout.features["action"].names,
        )  # fmt: skip
    with told_the_way(leave_out):
        drawn = tuple(_followed(policy, judged, int(n)) for n in chosen.episodes[:DRAWN])
        films = tuple(film for n in chosen.episodes[:DRAWN] for film in filmed(chosen, int(n), judged.cameras))
    what = f"{len(picks)} windows out of {choice.sentence}. {unnamed}".strip()
    if policy.ensemble is not None:
        what += " Each plan is judged by itself, without the temporal ensembling that the policy asks for."
    return (
        replace(found, trajectories=drawn, films=films),
        f"Plans beside what was demonstrated in {data}: {what}",
        choice,
    )


def _windows(policy: Policy, chosen: sets.Dataset, state: str | None) -> sets.Windows:
    """A policy's windows, with the state and the actions before it that the baselines know."""
    return sets.Windows(
        chosen,
        observations=list(dict.fromkeys([*read_features(policy, chosen), *([state] if state else [])])),
        obs_offsets=policy.timing.obs_offsets,
        action_offsets=range(-max(PAST, policy.timing.first), policy.horizon - policy.timing.first),
    )


def _batches(judged: sets.Windows, picks: np.ndarray, move: Callable[[int, str], None]) -> Iterator[Batch]:
    """The selected windows; reports progress after every batch."""
    for part in np.array_split(picks, max(1, len(picks) // BATCH)):
        yield judged.batch(part)
        move(len(part), "windows")


def _followed(policy: Policy, judged: sets.Windows, episode: int) -> Trajectory:
    """A policy's plans along an episode, each begun where the last one ended."""
    dataset = judged.dataset
    start = int(dataset.episode_from[episode])
    stop = min(int(dataset.episode_to[episode]), start + LONGEST)
    starts = np.arange(0, stop - start, policy.horizon - policy.timing.first)
    batch = judged.batch(np.searchsorted(dataset.rows, start) + starts)
    demo = judged.columns["action"][start:stop]
    return follow(policy, batch, episode, demo, starts, dataset.fps)
